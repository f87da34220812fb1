//! Where a name on the [allow-list](AllowList) may lead. One that resolves to an address of the machine itself, or to
//! where its cloud hands out credentials, is refused all the same: only the address itself, on the list, permits that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::endpoints::{AllowList, Endpoint};

/// Where clouds tell machines their credentials, beside link-local addresses.
const METADATA: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether an address that a permitted host resolved to may be connected to.
pub fn may_lead_to(list: &AllowList, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_special = match ip {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast()
        }
    };
    !(is_special || METADATA.contains(&ip)) || list.permits(&Endpoint::of(&ip.to_string(), address.port()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        AllowList::parse(&entries.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_name_that_leads_to_the_machine_itself_or_to_its_cloud_is_refused() {
        let names = list(&["redis.mcp"]);
        for address in [
            "127.0.0.1:80",
            "127.1.2.3:80",
            "169.254.169.254:80",
            "100.100.100.200:80",
            "168.63.129.16:80",
            "0.0.0.0:80",
            "224.0.0.1:80",
            "[::1]:80",
            "[::ffff:169.254.169.254]:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "[::]:80",
        ] {
            let address = address.parse().unwrap();
            assert!(!may_lead_to(&names, address), "{address}");
        }
        for address in ["10.0.0.7:6379", "8.8.8.8:53", "[fd00::1]:80"] {
            let address = address.parse().unwrap();
            assert!(may_lead_to(&names, address), "{address}");
        }
        let listed = list(&["127.0.0.1:80", "[::1]:81"]);
        for (address, permitted) in [
            ("127.0.0.1:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:81", false),
            ("[::1]:81", true),
            ("[::1]:82", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(may_lead_to(&listed, address), permitted, "{address}");
        }
    }
}
