//! The registry client: resolve, authenticate, pull, push.
#![forbid(unsafe_code)]
