//! Cuts inflated bytes into records.
