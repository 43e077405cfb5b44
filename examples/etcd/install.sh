#!/bin/sh
# Unpacks Debian's etcd to target/etcd: its service is neither installed nor started. Run it in the workspace, in a fresh
# container after `apt-get update`.
set -e
mkdir -p target/etcd
cd target/etcd
rm -f etcd-server_*.deb # an older version would be unpacked too
apt-get download etcd-server
dpkg --extract etcd-server_*.deb .
