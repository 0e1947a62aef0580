//! Turns `proto/` and `data/` into code: messages and services, the descriptors for reflection, one REST binding
//! for each method, the table of repeated fields, and the error catalogue. It needs nothing but cargo.

#[path = "build/binding.rs"]
mod binding;
#[path = "build/catalogue.rs"]
mod catalogue;
#[path = "build/entries.rs"]
mod entries;

use std::{env, error::Error, fs, path::PathBuf};

const SERVICE: &str = "huaweicloud/apic/v2/certificate_service.proto";
const CATALOGUE: &str = "data/error-codes.tsv";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed={CATALOGUE}");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(SERVICE)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let bindings = binding::read(&compiler.descriptor_pool())?;
    fs::write(out.join("bindings.rs"), bindings.code())?;
    fs::write(out.join("entries.rs"), entries::code(&compiler.descriptor_pool()))?;

    let mut prost = tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::pb::codec::Codec")
        // Google's definitions serve the build and reflection; no code uses them.
        .extern_path(".google.api", "::core::convert::Infallible");
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
