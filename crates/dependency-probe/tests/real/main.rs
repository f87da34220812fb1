//! Asks real servers: Redis, RabbitMQ and an S3 server, each run as a process of the test's own.
//! `cargo xtask test` fetches them and says where they are.
#![allow(clippy::unwrap_used)]

mod process;
mod rabbitmq;
mod redis;
mod s3;
