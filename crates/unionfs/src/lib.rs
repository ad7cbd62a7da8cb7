//! The merged view of layers in user space.
#![forbid(unsafe_code)]
