//! Containers on disk.
