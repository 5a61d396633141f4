//! The option words of a mount and what each does. Not here: which mounts there are.

use super::idmap;
use super::step::Attrs;
use crate::error::{Error, Result};

pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
pub(crate) const ATTR_ATIME: u64 = 0x70;
pub(crate) const ATTR_NOATIME: u64 = 0x10;
pub(crate) const ATTR_STRICTATIME: u64 = 0x20;
pub(crate) const ATTR_NODIRATIME: u64 = 0x80;
pub(crate) const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;
pub(crate) const LOCKED_DOWN: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
/// Of a mount that shows the container a device node of the host's. What is written to a device passes a read-only mount, mode and owner don't: root of a
/// container without capabilities would else change them for the whole host, as the node's owner.
pub(crate) const BORROWED_NODE: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC;

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Set these attributes.
    Set(u64),
    /// Clear these attributes.
    Clear(u64),
    /// Choose one of the access time modes.
    Atime(u64),
    /// The same for the whole tree.
    SetTree(u64),
    ClearTree(u64),
    AtimeTree(u64),
    /// MS_SHARED and so on.
    Propagation(u64),
    Bind {
        recursive: bool,
    },
    /// A flag of the file system (superblock), with its MS_ bit.
    Superblock(u64),
    /// Clears a flag of the file system.
    NotSuperblock(u64),
    /// Copy what is in the directory that is covered.
    CopyUp,
    /// Make a symbolic link anew instead of mounting what it leads to.
    CopyLink,
    /// Mount a symbolic link and not what it leads to.
    SourceLink,
    /// Mount on a symbolic link and not on what it leads to.
    OnLink,
    /// Change the mount that is there.
    Remount,
    /// Show other ids than the file system has; the map may follow.
    Idmap {
        whole_tree: bool,
    },
    /// Nothing to do.
    Default,
}

use Effect::{
    Atime, AtimeTree, Bind, Clear, ClearTree, CopyLink, CopyUp, Default as Nothing, Idmap, NotSuperblock, OnLink, Propagation, Remount,
    Set, SetTree, SourceLink, Superblock,
};

/// All words, sorted by name. Others are data of the file system.
const TABLE: &[(&str, Effect)] = &[
    ("async", NotSuperblock(libc::MS_SYNCHRONOUS)),
    ("atime", Atime(0)),
    ("bind", Bind { recursive: false }),
    ("copy-symlink", CopyLink),
    ("defaults", Nothing),
    ("dest-nofollow", OnLink),
    ("dev", Clear(ATTR_NODEV)),
    ("diratime", Clear(ATTR_NODIRATIME)),
    ("dirsync", Superblock(libc::MS_DIRSYNC)),
    ("exec", Clear(ATTR_NOEXEC)),
    ("idmap", Idmap { whole_tree: false }),
    ("iversion", Superblock(libc::MS_I_VERSION)),
    ("lazytime", Superblock(libc::MS_LAZYTIME)),
    ("loud", NotSuperblock(libc::MS_SILENT)),
    ("mand", Superblock(libc::MS_MANDLOCK)),
    ("noatime", Atime(ATTR_NOATIME)),
    ("nodev", Set(ATTR_NODEV)),
    ("nodiratime", Set(ATTR_NODIRATIME)),
    ("noexec", Set(ATTR_NOEXEC)),
    ("noiversion", NotSuperblock(libc::MS_I_VERSION)),
    ("nolazytime", NotSuperblock(libc::MS_LAZYTIME)),
    ("nomand", NotSuperblock(libc::MS_MANDLOCK)),
    ("norelatime", Atime(0)),
    ("nostrictatime", Atime(0)),
    ("nosuid", Set(ATTR_NOSUID)),
    ("nosymfollow", Set(ATTR_NOSYMFOLLOW)),
    ("private", Propagation(libc::MS_PRIVATE)),
    // Flags of a file system know no tree; crun lists these words all the same.
    ("rasync", NotSuperblock(libc::MS_SYNCHRONOUS)),
    ("ratime", AtimeTree(0)),
    ("rbind", Bind { recursive: true }),
    ("rdev", ClearTree(ATTR_NODEV)),
    ("rdiratime", ClearTree(ATTR_NODIRATIME)),
    ("rdirsync", Superblock(libc::MS_DIRSYNC)),
    ("relatime", Atime(0)),
    ("remount", Remount),
    ("rexec", ClearTree(ATTR_NOEXEC)),
    ("ridmap", Idmap { whole_tree: true }),
    ("rmand", Superblock(libc::MS_MANDLOCK)),
    ("rnoatime", AtimeTree(ATTR_NOATIME)),
    ("rnodev", SetTree(ATTR_NODEV)),
    ("rnodiratime", SetTree(ATTR_NODIRATIME)),
    ("rnoexec", SetTree(ATTR_NOEXEC)),
    ("rnomand", NotSuperblock(libc::MS_MANDLOCK)),
    ("rnorelatime", AtimeTree(0)),
    ("rnostrictatime", AtimeTree(0)),
    ("rnosuid", SetTree(ATTR_NOSUID)),
    ("rnosymfollow", SetTree(ATTR_NOSYMFOLLOW)),
    ("ro", Set(ATTR_RDONLY)),
    ("rprivate", Propagation(libc::MS_PRIVATE | libc::MS_REC)),
    ("rrelatime", AtimeTree(0)),
    ("rro", SetTree(ATTR_RDONLY)),
    ("rrw", ClearTree(ATTR_RDONLY)),
    ("rshared", Propagation(libc::MS_SHARED | libc::MS_REC)),
    ("rslave", Propagation(libc::MS_SLAVE | libc::MS_REC)),
    ("rstrictatime", AtimeTree(ATTR_STRICTATIME)),
    ("rsuid", ClearTree(ATTR_NOSUID)),
    ("rsymfollow", ClearTree(ATTR_NOSYMFOLLOW)),
    ("rsync", Superblock(libc::MS_SYNCHRONOUS)),
    ("runbindable", Propagation(libc::MS_UNBINDABLE | libc::MS_REC)),
    ("rw", Clear(ATTR_RDONLY)),
    ("shared", Propagation(libc::MS_SHARED)),
    ("silent", Superblock(libc::MS_SILENT)),
    ("slave", Propagation(libc::MS_SLAVE)),
    ("src-nofollow", SourceLink),
    ("strictatime", Atime(ATTR_STRICTATIME)),
    ("suid", Clear(ATTR_NOSUID)),
    ("symfollow", Clear(ATTR_NOSYMFOLLOW)),
    ("sync", Superblock(libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(libc::MS_UNBINDABLE)),
];

/// The words this runtime acts on, sorted, for `features`.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(w, _)| *w)
}

/// A mount's options, sorted out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub attrs: Attrs,
    pub tree_attrs: Attrs,
    pub propagation: u64,
    /// `Some(recursive)` when a bind word was given.
    pub bind: Option<bool>,
    /// MS_* flags of the file system, such as MS_SYNCHRONOUS.
    pub superblock: u64,
    /// `tmpcopyup`.
    pub copy_up: bool,
    /// `copy-symlink`.
    pub copy_link: bool,
    /// `src-nofollow`.
    pub source_link: bool,
    /// `dest-nofollow`.
    pub on_link: bool,
    /// `remount`.
    pub remount: bool,
    /// `idmap`, `ridmap`.
    pub idmap: Option<idmap::Word>,
    /// Everything else, in order, for the file system.
    pub data: Vec<String>,
}

/// Sorts out option words; the later of two that contradict wins.
///
/// # Errors
/// A NUL byte.
pub(crate) fn parse<'s>(words: impl IntoIterator<Item = &'s str>) -> Result<Options> {
    let mut o = Options::default();
    for word in words {
        if word.contains('\0') {
            return Err(Error::invalid("a mount option contains a NUL byte"));
        }
        // Of all words only these two take a value.
        let (name, value) = match word.split_once('=') {
            Some((name @ ("idmap" | "ridmap"), value)) => (name, value),
            _ => (word, ""),
        };
        match TABLE.binary_search_by(|(w, _)| (*w).cmp(name)) {
            Ok(at) => apply(&mut o, TABLE[at].1, value),
            Err(_) if word.is_empty() => {}
            Err(_) => o.data.push(word.to_owned()),
        }
    }
    Ok(o)
}

fn apply(o: &mut Options, effect: Effect, value: &str) {
    match effect {
        Set(bits) => set(&mut o.attrs, bits),
        Clear(bits) => clear(&mut o.attrs, bits),
        Atime(mode) => atime(&mut o.attrs, mode),
        SetTree(bits) => set(&mut o.tree_attrs, bits),
        ClearTree(bits) => clear(&mut o.tree_attrs, bits),
        AtimeTree(mode) => atime(&mut o.tree_attrs, mode),
        Propagation(flags) => o.propagation = flags,
        Bind { recursive } => o.bind = Some(o.bind == Some(true) || recursive),
        Superblock(flag) => o.superblock |= flag,
        NotSuperblock(flag) => o.superblock &= !flag,
        CopyUp => o.copy_up = true,
        CopyLink => o.copy_link = true,
        SourceLink => o.source_link = true,
        OnLink => o.on_link = true,
        Remount => o.remount = true,
        Idmap { whole_tree } => o.idmap = Some(idmap::Word { whole_tree, map: value.to_owned() }),
        Nothing => {}
    }
}

fn set(a: &mut Attrs, bits: u64) {
    a.set |= bits;
    a.clear &= !bits;
}

fn clear(a: &mut Attrs, bits: u64) {
    a.set &= !bits;
    a.clear |= bits;
}

/// The access time is a field and not a bit: mount_setattr(2) wants the whole field cleared when it is changed.
fn atime(a: &mut Attrs, mode: u64) {
    a.set = a.set & !ATTR_ATIME | mode;
    a.clear |= ATTR_ATIME;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_sorted_for_the_binary_search() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn words_and_their_effects() {
        let o = parse(["nosuid", "noexec", "nodev", "ro", "rbind", "rprivate", "mode=755", "size=1k"]).unwrap();
        assert_eq!(o.attrs, Attrs { set: 0xf, clear: 0 });
        assert_eq!(o.bind, Some(true));
        assert_eq!(o.propagation, libc::MS_PRIVATE | libc::MS_REC);
        assert_eq!(o.data, ["mode=755", "size=1k"]);
        let o = parse(["ro", "rw", "noatime", "strictatime"]).unwrap();
        assert_eq!(o.attrs, Attrs { set: ATTR_STRICTATIME, clear: ATTR_RDONLY | ATTR_ATIME });
        let o = parse(["rro", "relatime", "sync", "async"]).unwrap();
        assert_eq!((o.tree_attrs.set, o.attrs.clear, o.superblock), (ATTR_RDONLY, ATTR_ATIME, 0));
    }

    #[test]
    fn words_that_take_a_value() {
        let word = |words: &[&str]| parse(words.iter().copied()).unwrap().idmap.map(|w| (w.whole_tree, w.map));
        assert_eq!(word(&["ro"]), None);
        assert_eq!(word(&["idmap"]), Some((false, String::new())));
        assert_eq!(word(&["idmap="]), Some((false, String::new())));
        assert_eq!(word(&["idmap=uids=0-1-2"]), Some((false, "uids=0-1-2".into())));
        assert_eq!(word(&["idmap", "ridmap=x"]), Some((true, "x".into())));
        assert_eq!(parse(["ro=1", "bind="]).unwrap().data, ["ro=1", "bind="]);
        assert_eq!(parse(["idmap=\0"]).unwrap_err().to_string(), "a mount option contains a NUL byte");
    }

    proptest! {
        #[test]
        fn each_word_is_known_or_kept_in_order(ws in prop::collection::vec("[a-z=,0-9-]{0,12}|r?ro|r?nosuid|r?idmap|remount|x=.{0,5}", 0..12)) {
            let known = |w: &str| w.is_empty() || ["idmap=", "ridmap="].iter().any(|p| w.starts_with(p)) || words().any(|known| known == w);
            match parse(ws.iter().map(String::as_str)) {
                Ok(o) => prop_assert_eq!(o.data, ws.iter().filter(|w| !known(w)).cloned().collect::<Vec<_>>()),
                Err(_) => prop_assert!(ws.iter().any(|w| w.contains('\0'))),
            }
        }

        #[test]
        fn any_words_parse_and_bits_never_stand_on_both_sides(ws in prop::collection::vec("[a-z=,0-9]{0,12}|ro|rw|noatime|rnoatime|relatime|dev|nodev", 0..12)) {
            if let Ok(o) = parse(ws.iter().map(String::as_str)) {
                for a in [o.attrs, o.tree_attrs] {
                    prop_assert_eq!(a.set & a.clear & !ATTR_ATIME, 0);
                }
            }
        }
    }
}
