//! `linux.intelRdt`: which resource group a container's processes join, and what is written there. Not here: doing it (`engine::rdt`).

use crate::error::{Error, Result};
use crate::spec::{IntelRdt, Linux, Str};

/// Directories of the file system's root that are no groups (Documentation/filesystems/resctrl.rst).
const RESERVED: [&str; 3] = ["info", "mon_data", "mon_groups"];

/// A container's part in the resctrl file system.
#[derive(Debug, PartialEq)]
pub(crate) struct Rdt {
    /// Directory of the class of service below the root, or empty: the root, which is the default class.
    pub group: String,
    /// The group bears the container's name, and ends with it. Others may be anybody's.
    pub own: bool,
    /// What goes to the file `schemata`, in lines; may be empty.
    pub schemata: String,
    /// Directory of the monitoring group in that of the class.
    pub monitoring: Option<String>,
}

impl Rdt {
    /// `None` where the configuration asks for nothing. It has passed [`check`].
    pub(crate) fn compile(linux: &Linux<'_>, id: &str) -> Option<Self> {
        let rdt = linux.intel_rdt.as_ref()?;
        let group = named(rdt).map_or_else(|| id.to_owned(), |name| if name == "/" { String::new() } else { name.to_owned() });
        let monitoring = (rdt.enable_monitoring == Some(true)).then(|| format!("mon_groups/{id}"));
        Some(Self { group, own: named(rdt).is_none(), schemata: schemata(rdt), monitoring })
    }
}

/// The lines of the schemata file that `update` asks for.
///
/// # Errors
/// One of them has more than a line.
pub(crate) fn update(l3_cache: Option<&str>, mem_bw: Option<&str>) -> Result<String> {
    let text = |schema: Option<&str>| schema.map(|text| Str::from(text.to_owned()));
    let rdt = IntelRdt { l3_cache_schema: text(l3_cache), mem_bw_schema: text(mem_bw), ..IntelRdt::default() };
    lines_are_lines(&rdt, ["l3-cache-schema", "mem-bw-schema", ""])?;
    Ok(schemata(&rdt))
}

fn named<'a>(rdt: &'a IntelRdt<'_>) -> Option<&'a str> {
    rdt.clos_id.as_deref().filter(|name| !name.is_empty())
}

/// config-linux.md, "IntelRdt": both schemas go to one file; a line for memory bandwidth among those of the cache gives way to the field
/// that is meant for it; `schemata` comes last.
fn schemata(rdt: &IntelRdt<'_>) -> String {
    let cache = rdt.l3_cache_schema.as_deref().unwrap_or_default().lines();
    let cache = cache.filter(|line| rdt.mem_bw_schema.is_none() || !line.trim_start().starts_with("MB:"));
    let rest = rdt.schemata.iter().flatten().map(|line| &**line);
    let all = cache.chain(rdt.mem_bw_schema.as_deref()).chain(rest).map(str::trim);
    all.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

/// Checks what the configuration says.
///
/// # Errors
/// A class that no directory can be called, text that is no line; with the field's path.
pub(crate) fn check(linux: &Linux<'_>) -> Result<()> {
    let Some(rdt) = &linux.intel_rdt else { return Ok(()) };
    if let Some(name) = named(rdt).filter(|name| *name != "/") {
        let bad = name.len() > 255 || name.contains(|c: char| c == '/' || c.is_control());
        if bad || matches!(name, "." | "..") || RESERVED.contains(&name) {
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            return Err(Error::invalid(format!("linux.intelRdt.closID: `{shown}` is no name of a class of service")));
        }
    }
    lines_are_lines(rdt, ["linux.intelRdt.l3CacheSchema", "linux.intelRdt.memBwSchema", "linux.intelRdt.schemata"])
}

/// The cache's schema may have several lines, as the specification foresees.
fn lines_are_lines(rdt: &IntelRdt<'_>, names: [&str; 3]) -> Result<()> {
    let none = |field: &str, text: &str, lines: bool| {
        let line = |c: char| c.is_control() && !(lines && c == '\n');
        match text.contains(line) {
            true => Err(Error::invalid(format!("{field}: `{}` is not one line", text.escape_debug()))),
            false => Ok(()),
        }
    };
    none(names[0], rdt.l3_cache_schema.as_deref().unwrap_or_default(), true)?;
    none(names[1], rdt.mem_bw_schema.as_deref().unwrap_or_default(), false)?;
    rdt.schemata.iter().flatten().enumerate().try_for_each(|(i, line)| none(&format!("{}[{i}]", names[2]), line, false))
}

/// Whether the file's content `there` has all that `wanted` asks for. Domains that `wanted` does not name may be anything, and a number
/// may be written in several ways: the kernel pads them, and cuts bandwidths to what the hardware can do, which is a difference.
pub(crate) fn agrees(there: &str, wanted: &str) -> bool {
    let there: Vec<_> = there.lines().flat_map(domains).collect();
    wanted.lines().flat_map(domains).all(|domain| there.contains(&domain))
}

/// `L3:0=ff;1=0f` as resource, domain and value.
fn domains(line: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let (resource, rest) = line.split_once(':').unwrap_or((line, ""));
    rest.split(';').map(move |domain| {
        let (id, value) = domain.split_once('=').unwrap_or((domain, ""));
        (resource.trim(), number(id.trim()), number(value.trim()))
    })
}

/// Without the zeros it begins with, but for one that is all of it.
fn number(text: &str) -> &str {
    match text.trim_start_matches('0') {
        "" if !text.is_empty() => "0",
        rest => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(rdt: &str) -> Linux<'_> {
        serde_json::from_str(rdt).unwrap()
    }

    fn compiled(rdt: &str) -> Rdt {
        let text = format!(r#"{{"intelRdt":{rdt}}}"#);
        let linux = linux(&text);
        check(&linux).unwrap();
        Rdt::compile(&linux, "c1").unwrap()
    }

    #[test]
    fn groups_and_their_lines() {
        for (rdt, group, own, schemata, monitoring) in [
            ("{}", "c1", true, "", None),
            (r#"{"closID":""}"#, "c1", true, "", None),
            (r#"{"closID":"gold"}"#, "gold", false, "", None),
            (r#"{"closID":"/"}"#, "", false, "", None),
            (r#"{"enableMonitoring":false}"#, "c1", true, "", None),
            (r#"{"closID":"gold","enableMonitoring":true}"#, "gold", false, "", Some("mon_groups/c1")),
            (r#"{"l3CacheSchema":"L3:0=f"}"#, "c1", true, "L3:0=f\n", None),
            (r#"{"memBwSchema":"MB:0=50"}"#, "c1", true, "MB:0=50\n", None),
            (r#"{"l3CacheSchema":"L3:0=f\nMB:0=9\n","memBwSchema":"MB:0=50"}"#, "c1", true, "L3:0=f\nMB:0=50\n", None),
            (r#"{"l3CacheSchema":"L3:0=f\nMB:0=9"}"#, "c1", true, "L3:0=f\nMB:0=9\n", None),
            (r#"{"l3CacheSchema":"L3:0=f","schemata":["L2:0=3","MB:1=20"]}"#, "c1", true, "L3:0=f\nL2:0=3\nMB:1=20\n", None),
        ] {
            let want = Rdt { group: group.into(), own, schemata: schemata.into(), monitoring: monitoring.map(Into::into) };
            assert_eq!(compiled(rdt), want, "{rdt}");
        }
        assert_eq!(Rdt::compile(&Linux::default(), "c"), None);
    }

    #[test]
    fn bad_fields_are_named() {
        for (rdt, want) in [
            (r#"{"closID":".."}"#, "linux.intelRdt.closID: `..` is no name of a class of service"),
            (r#"{"closID":"a/b"}"#, "linux.intelRdt.closID: `a/b` is no name of a class of service"),
            (r#"{"closID":"info"}"#, "linux.intelRdt.closID: `info` is no name of a class of service"),
            (r#"{"closID":"a\u0000"}"#, r"linux.intelRdt.closID: `a\0` is no name of a class of service"),
            (r#"{"l3CacheSchema":"L3:0=f\u0000"}"#, r"linux.intelRdt.l3CacheSchema: `L3:0=f\0` is not one line"),
            (r#"{"memBwSchema":"MB:0=1\nL3:0=f"}"#, r"linux.intelRdt.memBwSchema: `MB:0=1\nL3:0=f` is not one line"),
            (r#"{"schemata":["L3:0=f","a\nb"]}"#, r"linux.intelRdt.schemata[1]: `a\nb` is not one line"),
        ] {
            let text = format!(r#"{{"intelRdt":{rdt}}}"#);
            assert_eq!(check(&linux(&text)).unwrap_err().to_string(), want);
        }
        assert_eq!(update(None, Some("a\nb")).unwrap_err().to_string(), r"mem-bw-schema: `a\nb` is not one line");
    }

    #[test]
    fn schemata_agree_when_nothing_asked_for_differs() {
        let there = "    MB:0=100;1= 50\n    L3:0=0ff;1=fff\n";
        for (wanted, agree) in [
            ("", true),
            ("L3:0=ff\n", true),
            ("L3:1=fff;0=00ff\nMB:0=100\n", true),
            ("MB:1=50\n", true),
            ("L3:0=f\n", false),
            ("L3:2=ff\n", false),
            ("L2:0=ff\n", false),
            ("L3\n", false),
        ] {
            assert_eq!(agrees(there, wanted), agree, "{wanted:?}");
        }
        assert!(agrees("L3:0=0\n", "L3:0=000\n") && agrees("L3:0=0", "L3:00=0") && !agrees("L3:0=0", "L3:0="));
    }
}
