//! Medians, ratios, the table, the JSON and the chart. Not here: measuring.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Options;
use super::scenario::Scenario;

/// Name and version of a runtime, as it says itself.
pub fn version(program: &Path) -> String {
    let out = Command::new(program).arg("--version").output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let line = out.unwrap_or_default().lines().next().unwrap_or_default().replace(" version", "");
    if line.is_empty() { program.display().to_string() } else { line }
}

/// Prints and writes everything.
pub fn write(o: &Options, results: &[Scenario]) -> Result<()> {
    print!("{}", table(results));
    if let Some(file) = &o.json {
        let text = serde_json::to_string_pretty(&document(results))?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &o.svg {
        std::fs::write(file, chart(results)).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Median of the ratios of each round to the other's of the same round.
fn ratio(mine: &[f64], other: &[f64]) -> f64 {
    let ratios: Vec<_> = mine.iter().zip(other).map(|(a, b)| a / b).collect();
    quantile(&ratios, 0.5)
}

fn table(results: &[Scenario]) -> String {
    let mut out = String::new();
    for s in results {
        let _ = writeln!(out, "\n{}", s.name);
        let own = s.columns.first().map_or(&[][..], |(_, values)| values);
        for (who, values) in &s.columns {
            let (median, p90, unit) = (quantile(values, 0.5), quantile(values, 0.9), s.unit);
            let _ = match values.len() {
                1 => writeln!(out, "  {who:<24}{median:>10.0} {unit:<6}               pinnace is {:.2} of it", ratio(own, values)),
                _ => writeln!(out, "  {who:<24}{median:>10.2} {unit:<6} p90 {p90:>8.2}   pinnace is {:.2} of it", ratio(own, values)),
            };
        }
        if !s.note.is_empty() {
            let _ = writeln!(out, "  {}", s.note);
        }
    }
    let _ = writeln!(out, "\n{}", noise(results));
    let _ = writeln!(
        out,
        "Not measured here: the smallest memory.max a container starts with (needs the memory controller: the test machines)."
    );
    out
}

/// How much the machine's own rounds differ: half of them lie that far apart.
fn noise(results: &[Scenario]) -> String {
    let spread = |values: &Vec<f64>| (quantile(values, 0.75) - quantile(values, 0.25)) / quantile(values, 0.5);
    let timed = results.iter().filter(|s| s.unit == "ms").flat_map(|s| &s.columns).filter(|(_, values)| values.len() > 3);
    let spreads: Vec<_> = timed.map(|(_, values)| spread(values)).collect();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "Noise: the middle half of a program's rounds spreads over {:.0} % of its median; load {load} on {cpus} CPUs.",
        100.0 * quantile(&spreads, 0.5)
    )
}

fn document(results: &[Scenario]) -> Value {
    let scenario = |s: &Scenario| {
        let own = s.columns.first().map_or(&[][..], |(_, values)| values);
        let columns = s.columns.iter().map(
            |(who, v)| json!({"program": who, "median": quantile(v, 0.5), "p90": quantile(v, 0.9), "ratio": ratio(own, v), "values": v}),
        );
        json!({"name": s.name, "unit": s.unit, "note": s.note, "programs": columns.collect::<Vec<_>>()})
    };
    json!({"noise": noise(results), "scenarios": results.iter().map(scenario).collect::<Vec<_>>()})
}

/// Horizontal bars of the medians, a group a timed scenario.
fn chart(results: &[Scenario]) -> String {
    const COLOURS: [&str; 5] = ["#d9480f", "#4c6ef5", "#868e96", "#12b886", "#343a40"];
    let (mut body, mut y) = (String::new(), 10.0);
    for s in results.iter().filter(|s| s.unit == "ms") {
        let longest = s.columns.iter().map(|(_, v)| quantile(v, 0.5)).fold(0.0, f64::max);
        let _ = writeln!(body, r#"<text x="10" y="{:.0}" font-weight="bold">{}</text>"#, y + 12.0, s.name);
        for (i, (who, values)) in s.columns.iter().enumerate() {
            y += 18.0;
            let (median, colour) = (quantile(values, 0.5), COLOURS[i % COLOURS.len()]);
            let _ = writeln!(
                body,
                r#"<text x="170" y="{:.0}" text-anchor="end">{who}</text><rect x="178" y="{y:.0}" width="{:.1}" height="14" fill="{colour}"/><text x="{:.1}" y="{:.0}">{median:.1} ms</text>"#,
                y + 12.0,
                400.0 * median / longest,
                184.0 + 400.0 * median / longest,
                y + 12.0
            );
        }
        y += 30.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"660\" height=\"{y:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_rounds() {
        assert!((quantile(&[3.0, 1.0, 2.0], 0.5) - 2.0).abs() < 1e-9);
        // Each round's own ratio counts, so that a slow minute of the machine does not.
        assert!((ratio(&[1.0, 10.0, 1.0], &[2.0, 20.0, 4.0]) - 0.5).abs() < 1e-9);
        let s = Scenario {
            name: "x".into(),
            unit: "ms",
            columns: vec![("a".into(), vec![1.0, 2.0]), ("b".into(), vec![2.0, 4.0])],
            note: String::new(),
        };
        let text = table(std::slice::from_ref(&s));
        assert!(text.contains("pinnace is 0.50 of it"), "{text}");
        assert!(chart(&[s]).ends_with("</svg>\n"));
    }
}
