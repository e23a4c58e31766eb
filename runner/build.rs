//! Rebuilds the crate when a shipped workflow changes: they are embedded.
fn main() {
    println!("cargo:rerun-if-changed=../workflows");
}
