//! Shell completions and manual pages: made of the same definitions as the command line.

use crate::support::Program;

/// The commands that people see.
async fn commands() -> Vec<String> {
    let help = Program::run(&["--help"], &[]).await.out;
    let list = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let commands = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    commands.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[tokio::test]
async fn every_shell_completes_every_command() {
    let commands = commands().await;
    assert!(commands.iter().any(|name| name == "certificates"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = Program::run(&["completions", shell], &[]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for name in commands.iter().map(String::as_str).chain(["certificate-id", "max-attempts"]) {
            assert!(ended.out.contains(name), "{name} is not in the completions of {shell}");
        }
        assert!(!ended.out.contains("reference"), "a hidden command is in the completions of {shell}");
    }
    assert_eq!(Program::run(&["completions", "tcsh"], &[]).await.code, Some(2));
}

#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    let script = Program::run(&["completions", "bash"], &[]).await.out;
    let file = super::File::new("completions.bash", &script);
    for (words, expected) in [
        (&["apig-grpc-gateway", "det"][..], "detach"),
        (&["apig-grpc-gateway", "certificates", "cr"], "create"),
        (&["apig-grpc-gateway", "attached", "--cert"], "--certificate-id"),
        (&["apig-grpc-gateway", "attached", "--output", "j"], "json"),
    ] {
        let last = words.len() - 1;
        let try_it = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={last}; \
             complete=$(complete -p apig-grpc-gateway); complete=${{complete#* -F }}; \
             ${{complete%% *}} apig-grpc-gateway {} {}; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.path,
            words.join(" "),
            words[last],
            words[last - 1],
        );
        let output = tokio::process::Command::new("bash").args(["-c", &try_it]).output().await.unwrap();
        let replies = String::from_utf8_lossy(&output.stdout);
        assert!(replies.lines().any(|reply| reply == expected), "{words:?}: {replies:?} {output:?}");
    }
}

#[tokio::test]
async fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(Program::run(&["reference", "man", "--into", path], &[]).await.code, Some(0));
    for command in commands().await {
        let page = folder.path().join(format!("apig-grpc-gateway-{command}.1"));
        assert!(std::fs::read_to_string(&page).unwrap().contains(".SH SYNOPSIS"), "{}", page.display());
    }
    assert!(folder.path().join("apig-grpc-gateway-certificates-update.1").exists());
    let page = Program::run(&["reference", "man"], &[]).await.out;
    assert_eq!(page, std::fs::read_to_string(folder.path().join("apig-grpc-gateway.1")).unwrap());
}
