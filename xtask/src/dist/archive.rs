//! Tarballs that depend on nothing but names, modes and contents of files: sorted, of root, with one time, and a gzip header without name and time.
//! Not here: which files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use tar::{Archive, Builder, EntryType, Header, HeaderMode};

use super::layout::Staged;

/// Writes `files` below the directory `top` to the tarball `out`, with the time `epoch`, in seconds since 1970.
///
/// # Errors
/// A file cannot be read, or the tarball not be written.
pub fn write(files: &[Staged], top: &str, epoch: u64, out: &Path) -> Result<()> {
    let file = File::create(out).with_context(|| format!("create {}", out.display()))?;
    let mut tar = Builder::new(gzip(BufWriter::new(file)));
    tar.mode(HeaderMode::Deterministic);
    let mut directories = BTreeSet::new();
    for staged in files {
        let path = format!("{top}/{}", staged.to);
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..=at]).collect();
        for parent in parents {
            if directories.insert(parent.to_owned()) {
                let mut header = header(EntryType::Directory, 0o755, 0, epoch)?;
                tar.append_data(&mut header, parent, std::io::empty()).with_context(|| format!("add {parent}"))?;
            }
        }
        let body = File::open(&staged.file).with_context(|| format!("open {}", staged.file.display()))?;
        let length = body.metadata().with_context(|| format!("look at {}", staged.file.display()))?.len();
        let mut header = header(EntryType::Regular, staged.mode, length, epoch)?;
        tar.append_data(&mut header, &path, body).with_context(|| format!("add {path}"))?;
    }
    let gzip = tar.into_inner().context("end the tarball")?;
    gzip.finish().and_then(|mut file| file.flush()).with_context(|| format!("write {}", out.display()))
}

/// Packs what is written to it: no file name, no time, and 255 for an unknown system (RFC 1952).
pub fn gzip<W: Write>(to: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).operating_system(255).write(to, Compression::best())
}

fn header(kind: EntryType, mode: u32, length: u64, epoch: u64) -> Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(length);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root").and_then(|()| header.set_groupname("root")).context("name root")?;
    Ok(header)
}

/// A file of an archive, with what of it must be equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path, without `./` in front.
    pub path: String,
    /// Permission bits, owner, group, time.
    pub about: (u32, u64, u64, u64),
    /// Its content.
    pub body: Vec<u8>,
}

/// A field of a header, of which nothing but zeros means 0 (tar(5)).
fn number(read: std::io::Result<u64>, field: &[u8]) -> std::io::Result<u64> {
    if field.iter().all(|byte| *byte == 0) { Ok(0) } else { read }
}

/// The members of a tarball, packed by gzip or not, in its order.
///
/// # Errors
/// It cannot be read.
pub fn read(tarball: &Path) -> Result<Vec<Member>> {
    let file = File::open(tarball).with_context(|| format!("open {}", tarball.display()))?;
    members(GzDecoder::new(BufReader::new(file))).with_context(|| format!("read {}", tarball.display()))
}

/// The members of a tar archive as it comes.
///
/// # Errors
/// It is no tar archive.
pub fn members(tar: impl Read) -> Result<Vec<Member>> {
    let mut archive = Archive::new(tar);
    let mut members = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_str().context("a name is not UTF-8")?.trim_start_matches("./").to_owned();
        let header = entry.header();
        let about =
            (header.mode()?, number(header.uid(), &header.as_old().uid)?, number(header.gid(), &header.as_old().gid)?, header.mtime()?);
        let mut body = Vec::new();
        entry.read_to_end(&mut body)?;
        members.push(Member { path, about, body });
    }
    if members.is_empty() {
        bail!("it has no members");
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn files(dir: &Path) -> Vec<Staged> {
        let body = [("bin/x", "program", 0o755), ("share/a/long/way/y", "text", 0o644)];
        let stage = |(to, body, mode): &(&str, &str, u32)| {
            let file = dir.join(to);
            fs::create_dir_all(file.parent().expect("a parent")).expect("make a directory");
            fs::write(&file, body).expect("write");
            Staged { file, to: (*to).to_owned(), mode: *mode }
        };
        body.iter().map(stage).collect()
    }

    #[test]
    fn it_depends_on_names_modes_and_contents_alone() {
        let (one, two) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (a, b) = (one.path().join("a.tar.gz"), two.path().join("other.tar.gz"));
        write(&files(one.path()), "pinnace-1", 86_400, &a).expect("write");
        let others = files(two.path());
        // Of another time and with other rights on disk.
        let other = File::options().write(true).open(&others[0].file).expect("open");
        other.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set the time");
        other.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        write(&others, "pinnace-1", 86_400, &b).expect("write");
        assert_eq!(fs::read(&a).expect("read"), fs::read(&b).expect("read"));

        let members = read(&a).expect("read");
        let seen: Vec<(&str, u32)> = members.iter().map(|member| (member.path.as_str(), member.about.0)).collect();
        assert_eq!(
            seen,
            [
                ("pinnace-1/", 0o755),
                ("pinnace-1/bin/", 0o755),
                ("pinnace-1/bin/x", 0o755),
                ("pinnace-1/share/", 0o755),
                ("pinnace-1/share/a/", 0o755),
                ("pinnace-1/share/a/long/", 0o755),
                ("pinnace-1/share/a/long/way/", 0o755),
                ("pinnace-1/share/a/long/way/y", 0o644),
            ]
        );
        assert!(members.iter().all(|member| (member.about.1, member.about.2, member.about.3) == (0, 0, 86_400)));
        assert_eq!(members[2].body, b"program");
    }

    #[test]
    fn what_is_no_tarball_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x");
        fs::write(&path, "not gzip").expect("write");
        assert!(format!("{:#}", read(&path).expect_err("no tarball")).starts_with("read "));
        assert!(members(std::io::empty()).is_err());
    }
}
