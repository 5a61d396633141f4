//! `cargo xtask dist`: what a package of pinnace is made of. Here: nothing yet but the table and the tests of what is in `dist/`.

#[cfg(test)]
mod engines;
#[cfg(test)]
mod layout;
