//! Turns `proto/` into messages and a service, with nothing of the gateway's own generator.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let files = protox::compile(["huaweicloud/apic/v2/certificate_service.proto"], ["../proto"])?;
    tonic_prost_build::configure()
        // The plain gateway serves the one method that is measured.
        .generate_default_stubs(true)
        .extern_path(".google.api", "::core::convert::Infallible")
        .message_attribute("AttachDomainsRequest", "#[derive(serde::Serialize)]")
        .message_attribute("AttachOrDetachDomainInfo", "#[derive(serde::Serialize)]")
        .field_attribute("AttachDomainsRequest.project_id", "#[serde(skip)]")
        .field_attribute("AttachDomainsRequest.certificate_id", "#[serde(skip)]")
        .field_attribute("AttachOrDetachDomainInfo.instance_ids", "#[serde(skip_serializing_if = \"Vec::is_empty\")]")
        .field_attribute(
            "AttachOrDetachDomainInfo.verified_client_certificate_enabled",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        .compile_fds(files)?;
    Ok(())
}
