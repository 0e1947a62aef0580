//! Turns `proto/` and `data/` into code: messages and services, the descriptors for reflection, one operation for each
//! method, the table of repeated fields, and the error catalogue. It needs nothing but cargo.

#[path = "build/binding.rs"]
mod binding;
#[path = "build/catalogue.rs"]
mod catalogue;
#[path = "build/entries.rs"]
mod entries;

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The API: every file below it is compiled.
const API: &str = "proto/huaweicloud";

/// The types of error details, so that clients such as grpcurl can decode them by reflection.
const ERROR_DETAILS: &str = "proto/google/rpc/error_details.proto";

const CATALOGUE: &str = "data/error-codes.tsv";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed={CATALOGUE}");
    println!("cargo::rustc-env=APIG_BUILD_RUSTC={}", rustc_version()?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    let mut files = Vec::new();
    find_files(Path::new(API), &mut files)?;
    files.sort();
    for file in files {
        compiler.open_file(file)?;
    }
    compiler.open_file(ERROR_DETAILS)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let bindings = binding::read(&compiler.descriptor_pool())?;
    fs::write(out.join("operations.rs"), bindings.operations())?;
    fs::write(out.join("resources.rs"), bindings.resources())?;
    fs::write(out.join("checks.rs"), bindings.checks())?;
    fs::write(out.join("redacted.rs"), bindings.redacted())?;
    fs::write(out.join("decoded.rs"), bindings.decoded())?;
    fs::write(out.join("entries.rs"), entries::code(&compiler.descriptor_pool()))?;

    let mut prost = tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::server::codec::Codec")
        .skip_debug(bindings.redacted_messages())
        // Google's definitions serve the build and reflection; no code uses them.
        .extern_path(".google.api", "::core::convert::Infallible")
        .extern_path(".google.rpc", "::core::convert::Infallible");
    for (path, attribute) in bindings.message_attributes() {
        prost = prost.message_attribute(path, attribute);
    }
    for (path, attribute) in bindings.field_attributes() {
        prost = prost.field_attribute(path, attribute);
    }
    prost.compile_fds(compiler.file_descriptor_set())?;

    let rows = catalogue::read(&fs::read_to_string(CATALOGUE)?).map_err(|fault| format!("{CATALOGUE}: {fault}"))?;
    fs::write(out.join("catalogue.rs"), catalogue::code(&rows))?;
    Ok(())
}

/// The version of the compiler, as in `1.88.0`.
fn rustc_version() -> Result<String, Box<dyn Error>> {
    let output = Command::new(env::var_os("RUSTC").ok_or("cargo sets RUSTC")?).arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split(' ').nth(1).ok_or("rustc has a version")?.to_owned())
}

/// Finds the .proto files in a folder and below.
fn find_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
