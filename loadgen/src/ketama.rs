//! Which of several servers has a key: the consistent hashing of libmemcached's weighted ketama,
//! with equal weights. Clients that call it "ketama" or "libketama compatible" place keys alike.
//!
//! Always true: the placement depends on the servers' names and ports alone, so that what one
//! client wrote another finds.
//!
//! Each server has 160 points on a circle of 32-bit numbers, four from each MD5 of
//! `name[:port]-index`; a key belongs to the first point at or after its own hash. The port is
//! left out where it is 11211.

use md5::{Digest, Md5};

use crate::transport::Address;

/// Points of one server.
const POINTS_PER_SERVER: usize = 160;

/// Points cut from one digest.
const POINTS_PER_DIGEST: usize = 4;

/// The port that names do not mention.
const USUAL_PORT: u16 = 11211;

/// The circle.
#[derive(Clone, Debug)]
pub struct Ring {
    /// By place on the circle.
    points: Vec<(u32, u32)>,
    server_count: usize,
}

impl Ring {
    /// The circle of these servers. A unix socket is a name with port 0.
    pub fn new(servers: &[Address]) -> Self {
        let mut points = Vec::with_capacity(servers.len() * POINTS_PER_SERVER);
        for (server, address) in servers.iter().enumerate() {
            let name = match address {
                Address::Tcp(host, USUAL_PORT) => host.clone(),
                Address::Tcp(host, port) => format!("{host}:{port}"),
                Address::Unix(path) => format!("{}:0", path.display()),
            };
            for index in 0..POINTS_PER_SERVER / POINTS_PER_DIGEST {
                let digest = Md5::digest(format!("{name}-{index}"));
                for point in digest.as_chunks().0 {
                    points.push((u32::from_le_bytes(*point), server as u32));
                }
            }
        }
        points.sort_unstable();
        Self {
            points,
            server_count: servers.len(),
        }
    }

    /// How many servers there are.
    pub fn server_count(&self) -> usize {
        self.server_count
    }

    /// The server that has the key, by its place in the list.
    pub fn server_of(&self, key: &[u8]) -> usize {
        let digest = Md5::digest(key);
        let hash = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let at = self.points.partition_point(|&(point, _)| point < hash);
        let (_, server) = self.points[at % self.points.len()];
        server as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of `servers|key:place key:place ...`, written by libmemcached itself.
    const VECTORS: &str = include_str!("ketama_vectors.txt");

    #[test]
    fn keys_are_where_libmemcached_puts_them() {
        let mut checked = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let (servers, places) = line.split_once('|').unwrap();
            let servers: Vec<Address> = servers
                .split(',')
                .map(|server| {
                    let (host, port) = server.rsplit_once(':').unwrap();
                    Address::Tcp(host.into(), port.parse().unwrap())
                })
                .collect();
            let ring = Ring::new(&servers);
            for place in places.split(' ') {
                let (key, server) = place.rsplit_once(':').unwrap();
                let expected: usize = server.parse().unwrap();
                assert_eq!(ring.server_of(key.as_bytes()), expected, "{key} of {line}");
                checked += 1;
            }
        }
        assert!(checked >= 500, "{checked}");
    }

    #[test]
    fn each_server_gets_its_share() {
        let servers: Vec<Address> = (0..4)
            .map(|index| Address::Tcp(format!("cache{index}"), 11211))
            .collect();
        let ring = Ring::new(&servers);
        let mut counts = [0; 4];
        for index in 0..40_000 {
            counts[ring.server_of(format!("key-{index}").as_bytes())] += 1;
        }
        assert!(
            counts.iter().all(|&count| (7_000..13_000).contains(&count)),
            "{counts:?}"
        );
    }
}
