//! The usual host names of a region's services, as the vendor's SDK (3.1.219) lists them.

/// Where IAM has a host of the region's own; elsewhere its global host serves.
const IAM: [&str; 28] = [
    "cn-north-1",
    "cn-north-2",
    "cn-north-4",
    "cn-north-9",
    "cn-north-12",
    "cn-east-2",
    "cn-east-3",
    "cn-east-4",
    "cn-east-5",
    "cn-south-1",
    "cn-south-2",
    "cn-southwest-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "af-south-1",
    "sa-brazil-1",
    "la-south-2",
    "la-north-2",
    "na-mexico-1",
    "eu-west-0",
    "my-kualalumpur-1",
    "ru-moscow-1",
    "me-east-1",
    "ae-ad-1",
    "tr-west-1",
    "eu-west-101",
];

/// Where STS has a host of the region's own.
const STS: [&str; 12] = [
    "cn-north-4",
    "cn-south-1",
    "cn-east-3",
    "cn-southwest-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "sa-brazil-1",
    "la-south-2",
    "af-south-1",
    "tr-west-1",
];

/// Whether this can be a region's id.
pub(super) fn is_one(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// The host of a service that every region has.
pub(super) fn host(service: &str, region: &str) -> String {
    let domain = if region == "eu-west-101" { "myhuaweicloud.eu" } else { "myhuaweicloud.com" };
    format!("https://{service}.{region}.{domain}")
}

pub(super) fn iam(region: Option<&str>) -> String {
    match region {
        Some(region) if IAM.contains(&region) => host("iam", region),
        _ => "https://iam.myhuaweicloud.com".to_owned(),
    }
}

pub(super) fn sts(region: Option<&str>) -> String {
    match region {
        Some(region) if STS.contains(&region) => host("sts", region),
        _ => host("sts", "cn-north-4"),
    }
}
