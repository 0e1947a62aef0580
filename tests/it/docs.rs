//! The documentation: generated pages, links, names of settings, the index of decisions.

use std::path::{Path, PathBuf};

use apig_grpc_gateway::config::SETTINGS;

use crate::support::Program;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    find_pages(root(), &mut paths);
    let pages: Vec<_> = paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect();
    assert!(pages.len() > 40, "{} pages", pages.len());
    pages
}

/// The pages of a folder and of those in it; builds and packages leave others in folders of their own.
fn find_pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
                find_pages(&path, pages);
            }
        } else if name.ends_with(".md") {
            pages.push(path);
        }
    }
}

#[tokio::test]
async fn the_reference_pages_are_what_the_program_prints() {
    for page in ["settings", "metrics"] {
        let text = std::fs::read_to_string(root().join(format!("docs/{page}.md"))).unwrap_or_default();
        let ended = Program::run(&["reference", page], &[]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.out == text, "docs/{page}.md is stale: cargo run -- reference {page} > docs/{page}.md");
    }
}

#[test]
fn every_relative_link_has_a_target() {
    let mut broken = Vec::new();
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = target.exists() && (anchor.is_empty() || anchors(&target).iter().any(|one| one == anchor));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The anchors of a page's headings, as Markdown viewers make them.
fn anchors(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let mut is_code = false;
    let headings = text.lines().filter(|line| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_reason_of_the_gateway_has_a_section() {
    let source = std::fs::read_to_string(root().join("src/status/local.rs")).unwrap();
    let reasons: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1.strip_suffix("\","))
        .filter(|reason| reason.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(reasons.len() >= 14, "{reasons:?}");
    let page = std::fs::read_to_string(root().join("docs/troubleshoot.md")).unwrap();
    let table = page.lines().filter(|line| line.starts_with("| `")).collect::<Vec<_>>().join("\n");
    for reason in reasons {
        assert!(table.contains(&format!("`{reason}`")), "{reason} is not in the table of docs/troubleshoot.md");
        let section = page.split_once(&format!("### `{reason}`\n")).map_or("", |(_, rest)| rest);
        let section = section.split("\n#").next().unwrap();
        for part in ["- **Meaning:** ", "- **Who acts:** ", "- **How:** "] {
            assert!(section.contains(part), "docs/troubleshoot.md has no {part:?} for {reason}");
        }
    }
}

#[test]
fn every_variable_in_the_documentation_is_a_setting() {
    const PREFIX: &str = "APIG_GATEWAY_";
    // Those of the commands that call a gateway are no settings of one.
    const OF_COMMANDS: [&str; 5] = ["CONFIG", "TARGET", "CA", "CERTIFICATE", "KEY"];
    for (page, text) in pages() {
        for (at, _) in text.match_indices(PREFIX) {
            let rest = &text[at + PREFIX.len()..];
            let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(rest.len());
            let name = &text[at..at + PREFIX.len() + end];
            // `APIG_GATEWAY_*` stands for all of them.
            let is_known = name == PREFIX || OF_COMMANDS.iter().any(|known| name.strip_prefix(PREFIX) == Some(known));
            let is_setting = SETTINGS.iter().any(|setting| setting.variable() == name);
            assert!(is_known || is_setting, "{name} in {}", page.display());
        }
    }
}

#[test]
fn the_index_of_decisions_is_complete() {
    let index = std::fs::read_to_string(root().join("docs/decisions/README.md")).unwrap();
    for (page, text) in pages().iter().filter(|(page, _)| page.parent().unwrap().ends_with("decisions")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        let row =
            index.lines().find(|line| line.starts_with(&format!("| [{}]({name})", &name[..4]))).unwrap_or_default();
        let title = text.lines().next().and_then(|line| line.split_once(". ")).unwrap().1;
        let cells: Vec<_> = row.split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect();
        assert!(cells.len() == 4 && cells[1] == title, "{name} in docs/decisions/README.md: {row:?}");
    }
}
