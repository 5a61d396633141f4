//! Table tests of the GNU habits.

use super::*;

fn sample(typed: Typed<'_>) -> Command {
    with_operands(
        command(typed, "sample", "sample [OPTION]... CONTAINER", "try things")
            .args(typed.only(value("bundle", "DIR", "a value").short('b')))
            .args(typed.only(value("pid-file", "FILE", "a value")))
            .args(typed.only(value("preserve-fds", "N", "a value")))
            .args(typed.only(value("env", "ENV", "repeated").action(ArgAction::Append)))
            .args(typed.only(flag("no-pivot", "a flag")))
            .args(typed.only(flag("no-subreaper", "a flag")))
            .args(typed.only(flag("detach", "a flag").short('d'))),
    )
}

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn shown(line: &str) -> String {
    match parse(sample, &words(line)) {
        Ok(m) => {
            let operands = operands(&m, "sample", 0, 9).unwrap();
            let bundle = path(&m, "bundle").map(|p| p.display().to_string());
            format!("{:?} {:?} d={} s={}", bundle, operands, is_set(&m, "detach"), is_set(&m, "no-subreaper"))
        }
        Err(Stop::Usage(text)) => text,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn values_abbreviations_and_order() {
    let a = r#"Some("x") ["a"] d=false s=false"#;
    for line in [
        "--bundle x a",
        "--bundle=x a",
        "-b x a",
        "-bx a",
        "--bun x a",
        "--b=x a",
        "a --bundle x",
        "a -bx",
        "--bundle y --bundle x a",
        "--bundle x -- a",
        "--no-p --bundle x a",
    ] {
        assert_eq!(shown(line), a, "{line}");
    }
    assert_eq!(shown("--bundle -x a"), r#"Some("-x") ["a"] d=false s=false"#);
    assert_eq!(shown("--bundle --detach a"), r#"Some("--detach") ["a"] d=false s=false"#);
    assert_eq!(shown("--bundle= a"), r#"Some("") ["a"] d=false s=false"#);
    assert_eq!(shown("-dbx a"), r#"Some("x") ["a"] d=true s=false"#);
    assert_eq!(shown("-d -d --detach a"), r#"None ["a"] d=true s=false"#);
    assert_eq!(shown("-- -d a"), r#"None ["-d", "a"] d=false s=false"#);
    assert_eq!(shown("-- a --"), r#"None ["a", "--"] d=false s=false"#);
}

#[test]
fn one_dash_for_the_one_option_that_is_written_so() {
    assert_eq!(shown("-no-subreaper a"), r#"None ["a"] d=false s=true"#);
    assert_eq!(shown("--no-s a"), r#"None ["a"] d=false s=true"#);
    assert_eq!(shown("--bundle -no-subreaper a"), r#"Some("-no-subreaper") ["a"] d=false s=false"#);
    assert_eq!(shown("-no-pivot a"), "invalid option -- 'n'");
}

#[test]
fn errors_read_as_getopt_words_them() {
    for (line, text) in [
        ("--foo a", "unrecognized option '--foo'"),
        ("--foo=3 a", "unrecognized option '--foo'"),
        ("-x a", "invalid option -- 'x'"),
        ("-dx a", "invalid option -- 'x'"),
        ("a --bundle", "option '--bundle' requires an argument"),
        ("a -b", "option '--bundle' requires an argument"),
        ("--detach=1 a", "option '--detach' doesn't allow an argument"),
        ("--p x a", "option '--p' is ambiguous; possibilities: '--pid-file' '--preserve-fds'"),
    ] {
        assert_eq!(shown(line), text, "{line}");
    }
}

#[test]
fn help_and_usage_are_printed_whatever_else_is_there() {
    let print = |line: &str| match parse(sample, &words(line)) {
        Err(Stop::Print(text)) => text,
        other => panic!("{other:?}"),
    };
    for line in ["--help", "-?", "-h", "--he", "a --help", "--detach --help a b c"] {
        let text = print(line);
        assert!(text.starts_with("Usage: sample [OPTION]... CONTAINER\ntry things\n"), "{text}");
        assert!(text.contains("-b, --bundle <DIR>"), "{text}");
        assert!(!text.contains("operands"), "{text}");
    }
    assert_eq!(print("--usage a"), "Usage: sample [OPTION]... CONTAINER\n");
}

#[test]
fn operands_are_counted() {
    let count = |line: &str, min, max| operands(&parse(sample, &words(line)).unwrap(), "sample", min, max).map_err(|e| e.to_string());
    assert_eq!(count("", 1, 1), Err("please specify a ID for the container".into()));
    assert_eq!(count("a", 2, 9), Err("`sample` requires a minimum of 2 arguments".into()));
    assert_eq!(count("a b", 1, 1), Err("`sample` requires a maximum of 1 arguments".into()));
    assert_eq!(count("a b", 1, 2).unwrap(), ["a", "b"]);
}

#[test]
fn values_are_checked() {
    use std::os::unix::ffi::OsStringExt;
    let m = parse(sample, &words("--preserve-fds 1x --env A=1 --env B a")).unwrap();
    assert_eq!(number::<u32>(&m, "preserve-fds").unwrap_err().to_string(), "invalid value for `preserve-fds`: `1x`");
    assert_eq!(texts(&m, "env").unwrap(), ["A=1", "B"]);
    assert_eq!(number::<u32>(&parse(sample, &words("--preserve-fds 3")).unwrap(), "preserve-fds").unwrap(), Some(3));
    assert_eq!(text(&m, "bundle").unwrap(), None);
    let odd = vec![OsString::from("--bundle"), OsString::from_vec(vec![0xff])];
    let m = parse(sample, &odd).unwrap();
    assert_eq!(path(&m, "bundle").unwrap().into_os_string().into_vec(), [0xff]);
    assert_eq!(text(&m, "bundle").unwrap_err().to_string(), "the value for `bundle` is not valid UTF-8: `\u{fffd}`");
}

/// Whatever is typed is understood as with all options there are.
#[test]
fn leaving_options_out_changes_nothing() {
    let lines = [
        "a",
        "-b x a",
        "-dbx a",
        "--bun=/x a --pid-file y",
        "--no-p -d -- --bundle",
        "--e --bundle a",
        "-no-subreaper a",
        "--no a",
        "--nothing a",
        "-z a",
        "--bundle",
        "-b",
        "a --d --env A=1 --en=B",
        "--preserve-fds -3 a",
        "--detach=x a",
        "-- -b",
    ];
    for line in lines {
        let told = |m: Result<ArgMatches, Stop>| match m {
            Ok(m) => {
                let values = ["bundle", "pid-file", "preserve-fds", "env"].map(|long| texts(&m, long).unwrap());
                let flags = ["no-pivot", "no-subreaper", "detach"].map(|long| is_set(&m, long));
                format!("{values:?} {flags:?} {:?}", operands(&m, "sample", 0, 9).unwrap())
            }
            Err(stop) => format!("{stop:?}"),
        };
        let words = words(line);
        assert_eq!(told(parse(sample, &words)), told(parse_all(sample(Typed::ALL), &words)), "{line}");
    }
}
