//! What docs/generate.md shows for a build without buf.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let api = protox::compile(["huaweicloud/apic/v2/certificate_service.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        // The options of the .proto need no code.
        .extern_path(".google.api", "::core::convert::Infallible")
        .compile_fds(api)?;
    Ok(())
}
