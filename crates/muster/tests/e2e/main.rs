//! End-to-end tests: the real executables, started, killed and looked at as people do.

mod access;
mod accessibility;
mod alerting;
mod browser;
mod cluster;
mod command_line;
mod culprit;
mod demo;
mod deployment;
mod durability;
mod eventually;
mod grpcurl;
mod logs;
mod outage;
mod process;
mod push;
mod random;
mod readme;
mod reload;
mod removal;
mod rotation;
mod stopping;
mod systemd;
mod tls;
mod top;
mod witness;
