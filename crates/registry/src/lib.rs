//! The Registry V2 server.
#![forbid(unsafe_code)]
