#!/bin/sh
# Unpacks Debian's etcd to target/etcd: its service is neither installed nor started. Run it in the workspace.
set -e
mkdir -p target/etcd
cd target/etcd
apt-get download etcd-server
dpkg --extract etcd-server_*.deb .
