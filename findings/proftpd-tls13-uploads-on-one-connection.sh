#!/usr/bin/env bash
# proftpd, FTPS with TLS 1.3: curl's second and later uploads on one control connection get 425, and the old files are empty.
#
# Version: proftpd-core and proftpd-mod-crypto 1.3.8+dfsg-4+deb12u5, curl 7.88.1-10+deb12u15, libssl3 3.0.20-1~deb12u2 (Debian 12).
# Behaviour: unless `TLSOptions NoSessionReuseRequired` is set, mod_tls refuses a data connection that does not resume a TLS
#   session. With TLS 1.2, all uploads of one curl on one control connection work. With TLS 1.3 the first one works, but most of
#   the later ones get `425 Unable to build data connection: Operation not permitted`, or the data connection breaks before (in
#   the log of mod_tls: `client did not reuse TLS session, rejecting data connection`); which of them varies from run to run.
#   The exit status of curl can still be 0: it is that of the last file. Downloads work, also with TLS 1.3.
#   STOR truncates the file before the handshake of the data connection: after the refusal an existing file is empty, not old.
#   A client that offers the session of the control connection for every data connection (here: Python's ftplib with a changed
#   ntransfercmd) has no failures. So a publisher over FTPS needs TLS 1.2 or control over the sessions that it offers, has to try
#   more than one upload when it tests a server, and has to upload to another name and rename.
# Output seen (the number after "emptied" varies):
#   curl, TLS 1.2: 8 of 8 files uploaded
#   curl, TLS 1.3: 8 of 8 files downloaded
#   curl, TLS 1.3: the first of 8 files uploaded again, emptied: 5
#   session of the control connection each time, TLS 1.3: 8 of 8 files uploaded
#
# Needs root (proftpd starts as root), apt-get, openssl, python3, the libraries that Debian's curl depends on.
set -euo pipefail
work=$(mktemp -d)
pid=
end() {
  [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
  rm -rf "$work"
}
trap end EXIT
cd "$work"
chmod 755 .
apt-get download -q proftpd-core=1.3.8+dfsg-4+deb12u5 proftpd-mod-crypto=1.3.8+dfsg-4+deb12u5 curl=7.88.1-10+deb12u15 \
  libcurl4=7.88.1-10+deb12u15 libssl3=3.0.20-1~deb12u2 libhiredis0.14=0.14.1-3 libmemcached11=1.1.4-1 libmemcachedutil2=1.1.4-1 \
  libhashkit2=1.1.4-1 libpcre2-posix3=10.42-1+deb12u2 >/dev/null 2>&1 || { echo "these versions cannot be had" >&2; exit 1; }
for archive in *.deb; do dpkg -x "$archive" .; done
library=$work/$(dirname usr/lib/*/libcurl.so.4)

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir root
chmod 777 root
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 2 -subj /CN=localhost \
  -addext subjectAltName=IP:127.0.0.1 2>/dev/null
echo "user:$(openssl passwd -6 password):$(id -u nobody):$(id -g nobody)::$work/root:/bin/false" >passwd
chmod 640 passwd
cat >proftpd.conf <<END
ServerName test
ServerType standalone
DefaultAddress 127.0.0.1
SocketBindTight on
Port $port
User nobody
Group nogroup
PidFile $work/pid
ScoreboardFile $work/score
DelayTable none
WtmpLog off
TransferLog none
SystemLog $work/log
AuthUserFile $work/passwd
AuthOrder mod_auth_file.c
RequireValidShell off
DefaultRoot ~
UseReverseDNS off
AllowOverwrite on
ModulePath $work/usr/lib/proftpd
LoadModule mod_tls.c
TLSEngine on
TLSLog $work/tls.log
TLSRSACertificateFile $work/certificate.pem
TLSRSACertificateKeyFile $work/key.pem
END
LD_LIBRARY_PATH=$library usr/sbin/proftpd -n -c "$work/proftpd.conf" >output 2>&1 &
pid=$!

numbers="1 2 3 4 5 6 7 8"
files='{file1,file2,file3,file4,file5,file6,file7,file8}'
for i in $numbers; do echo "content $i" >"file$i"; done
ftp() { LD_LIBRARY_PATH=$library usr/bin/curl -sS --ssl-reqd --cacert certificate.pem --user user:password "$@" 2>messages; }
url=ftp://127.0.0.1:$port
for _ in $(seq 100); do
  ftp --tls-max 1.2 "$url/" && break
  sleep 0.1
done
# same: how many files on the server have the right content; empty: how many have none.
same() { (for i in $numbers; do ! cmp -s "file$i" "root/file$i" || echo "$i"; done) | wc -l; }
empty() { find root -type f -empty | wc -l; }
fail() { echo "$1" >&2; cat messages >&2; exit 1; }

ftp --tls-max 1.2 -T "$files" "$url/" || fail "TLS 1.2 fails, too"
[ "$(same)" = 8 ] || fail "TLS 1.2: not all files are right"
echo "curl, TLS 1.2: 8 of 8 files uploaded"
ftp --tlsv1.3 -o 'got-#1' "$url/$files" || fail "TLS 1.3: a download failed"
for i in $numbers; do cmp "file$i" "got-file$i"; done
echo "curl, TLS 1.3: 8 of 8 files downloaded"
# The exit status of curl is that of the last file.
ftp --tlsv1.3 -T "$files" "$url/" || true
grep -q 'server did not report OK, got 425\|Send failure: Broken pipe' messages || fail "TLS 1.3: no upload failed"
grep -q 'client did not reuse TLS session, rejecting data connection' tls.log || fail "the uploads failed for another reason"
cmp file1 root/file1 || fail "the first upload failed, too"
[ "$(empty)" -ge 1 ] || fail "no file is empty"
[ $(($(same) + $(empty))) = 8 ] || fail "a file is neither right nor empty"
echo "curl, TLS 1.3: the first of 8 files uploaded again, emptied: $(empty)"
rm -f root/*
python3 - "$port" <<'END'
import ftplib, io, ssl, sys


class Client(ftplib.FTP_TLS):
    def ntransfercmd(self, cmd, rest=None):
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        return self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session), size


context = ssl.create_default_context(cafile="certificate.pem")
context.minimum_version = ssl.TLSVersion.TLSv1_3
client = Client(context=context)
client.connect("127.0.0.1", int(sys.argv[1]))
client.login("user", "password")
client.prot_p()
for i in range(1, 9):
    client.storbinary(f"STOR file{i}", io.BytesIO(open(f"file{i}", "rb").read()))
client.quit()
END
[ "$(same)" = 8 ] || fail "the session of the control connection does not help"
echo "session of the control connection each time, TLS 1.3: 8 of 8 files uploaded"
