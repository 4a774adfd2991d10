#!/usr/bin/env perl
# Instructions per request on nginx's event loop, and per span on the exporter
# thread. Counted by callgrind, so that the figures do not depend on how busy the
# machine is; two run lengths are subtracted, so that start and stop fall out.
#
#   make bench                  the table
#   BENCH_REQUESTS=5000 make bench

use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../lib";
use IO::Socket::INET;
use Test::More ();

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Nginx;

# The harness reports each server's log as a test; here only failures matter.
Test::More->builder->output(\my $passed);

my $requests = $ENV{BENCH_REQUESTS} || 2000;
my $nginx    = $ENV{EDGESPAN_NGINX} || (grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin')[0];

# The single process keeps the counts of its threads apart: 1 is the event loop.
my $tmp = tmpdir();
my $wrapper = "$tmp/nginx";
open my $fh, '>', $wrapper or die "$wrapper: $!";
print $fh <<"END";
#!/bin/sh
case " \$* " in *" -t "*) exec $nginx "\$@" ;; esac
exec valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file=\$CALLGRIND_OUT \\
    --log-file=\$CALLGRIND_OUT.log $nginx "\$@"
END
close $fh;
chmod 0755, $wrapper;

my $collector = EdgespanTest::Collector->new;
my $upstream  = EdgespanTest::Nginx->new(module => 0, http => <<'END');
    access_log off; keepalive_requests 1000000;
    server { listen 127.0.0.1:%%PORT%%; location / { return 200 "ok\n"; } }
END
$upstream->start;

my $keep = 'otel_sample_keep error slow=10s status=429;';
my %tracing = (none => '', off => '', on => 'otel_trace on;',
    dropped => 'otel_trace on; otel_sample_rate 0;',
    asked   => "otel_trace on; otel_sample_rate 0; $keep");

sub config {
    my ($tracing) = @_;
    my $otel = $tracing{$tracing};
    $otel .= " otel_service_name bench; otel_exporter { endpoint @{[$collector->url]}; }"
        if $tracing ne 'none';
    my $port = $upstream->port;
    return <<"END";
    $otel
    access_log off; keepalive_requests 1000000;
    upstream backend { server 127.0.0.1:$port; keepalive 4; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:%%PORT%%;
        location = /return { return 200 "ok\\n"; }
        location /proxy/ {
            proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
        }
    }
END
}

# Keepalive, one after the other, each answer read to its end.
sub load {
    my ($port, $path, $count) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port)
        or die "connect: $!";
    my $request = "GET $path HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1.0\r\n"
        . "Accept: */*\r\n\r\n";
    for (1 .. $count) {
        syswrite $sock, $request;
        my $answer = '';
        until ($answer =~ /\r\n\r\n(?:ok\n|3\r\nok\n\r\n0\r\n\r\n)\z/) {
            sysread($sock, $answer, 4096, length $answer) or die "the server closed: $answer";
        }
    }
}

# (event loop, other threads) of one run.
sub measure {
    my ($tracing, $path, $count) = @_;
    my $out = "$tmp/out-$tracing-$count";
    local $ENV{CALLGRIND_OUT}  = $out;
    local $ENV{EDGESPAN_NGINX} = $wrapper;
    my $server = EdgespanTest::Nginx->new(
        module => $tracing ne 'none', master => 0, http => config($tracing),
        start_timeout => 60, stop_timeout => 60,
    );
    $server->start;
    load($server->port, $path, $count);

    # Between its look at the signals and epoll_wait() a single process misses one:
    # the connection wakes it.
    $server->signal('QUIT');
    IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->port);
    $server->stop('QUIT');
    my ($loop, $others) = (0, 0);
    for my $file (glob "$out-*") {
        my ($thread) = $file =~ /-(\d\d)$/ or next;
        my ($total)  = slurp($file) =~ /^(?:totals|summary): (\d+)/m or next;
        ${$thread == 1 ? \$loop : \$others} += $total;
    }
    unlink glob "$out*";
    $loop or die "callgrind counted nothing of $tracing $path\n";
    return ($loop, $others);
}

sub per_request {
    my ($tracing, $path) = @_;
    my @short = measure($tracing, $path, $requests);
    my @long  = measure($tracing, $path, 2 * $requests);
    return map { ($long[$_] - $short[$_]) / $requests } 0, 1;
}

my %spans = ('/return' => 1, '/proxy/' => 2);
printf "Instructions per request (callgrind, %d requests)\n\n", $requests;
printf "%-10s %12s %12s %12s %12s %12s %14s %16s\n", 'request', 'plain nginx', 'loaded, off',
    'dropped', 'keep rules', 'traced', 'tracing costs', 'exporter, span';
for my $path ('/return', '/proxy/') {
    my ($plain)         = per_request('none',    $path);
    my ($off)           = per_request('off',     $path);
    my ($dropped)       = per_request('dropped', $path);
    my ($asked)         = per_request('asked',   $path);
    my ($on, $exporter) = per_request('on',      $path);
    printf "%-10s %12.0f %12.0f %12.0f %12.0f %12.0f %14.0f %16.0f\n", $path, $plain, $off, $dropped,
        $asked, $on, $on - $plain, $exporter / $spans{$path};
}
$upstream->finish;
$collector->stop;
Test::More::done_testing();
