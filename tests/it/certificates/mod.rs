//! `rollover cert` through the real program, in a folder as people have it; openssl and cfssl are the judges.

mod desk;
mod keys;
mod looking;
mod making;
mod rotation;
mod stores;
mod wire;
