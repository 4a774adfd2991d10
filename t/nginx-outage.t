# A collector that is away, refuses, hangs or is unknown to the name server costs
# spans, which are counted, and never a request, a stop or much memory.

use strict;
use warnings;

use IO::Socket::INET;
use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::NginxTraced;
use EdgespanTest::Otlp;

my $CONF = <<'CONF';
keepalive_requests 100000;
server { listen 127.0.0.1:%%PORT1%%; location / { return 200 "ok"; } }
CONF

sub server { return EdgespanTest::NginxTraced->new(workers => 2, http => $CONF,
    @_)->start }

# Seconds that each of some requests over one connection took, sorted.
sub latencies {
    my ($n, $count) = @_;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $n->port(1)) or die "connect: $!";
    my @took;
    for (1 .. $count) {
        my $from = time;
        syswrite $sock, "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        sysread $sock, my $answer, 4096 or die "no answer";
        push @took, time - $from;
    }
    return sort { $a <=> $b } @took;
}

sub burst {
    my ($n, $count) = @_;
    system("ab -q -k -n $count -c 4 http://127.0.0.1:" . $n->port(1)
        . '/ >/dev/null 2>&1') == 0 or die 'ab failed';
    return;
}

# {reason => spans} as the log says in the end.
sub dropped {
    my ($n) = @_;
    # The last line of a reason has the total.
    my %total = $n->error_log
        =~ /\d+ spans dropped: ([^(]+) \((\d+) since the start\)/g;
    return \%total;
}

# Every span that was made arrived or was counted.
sub accounted {
    my ($n) = @_;
    my $made = () = $n->logged_ids;
    my $ids = $n->collector->span_ids_fast;
    my $received = sum0 values %$ids;
    my $dropped = sum0 values %{ dropped($n) };
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $received + $dropped, $made,
        "$made made: $received received, $dropped dropped";
    return ($made, $received, $dropped);
}

# Who waited for a collector would wait for longer than $PATIENCE.
my $PATIENCE = 2;
subtest 'latency: no collector mode is felt by a request' => sub {
    my $c = EdgespanTest::Collector->new;
    my $n = server(collector => $c, exporter => 'timeout 5s;');
    latencies($n, 200);
    for my $mode (qw(ok hang reset blackhole status:503 refused)) {
        if ($mode eq 'refused') { $c->stop } else { $c->mode($mode) }
        # The exporter has met it before it is measured.
        latencies($n, 20);
        sleep 0.1;
        my @took = latencies($n, 600);
        cmp_ok $took[-1], '<', $PATIENCE, sprintf
            '%s: median %.0f us, the slowest %.1f ms', $mode,
            1e6 * $took[300], 1e3 * $took[-1];
    }
    $n->stop('TERM');
    accounted($n);
    $n->finish;
};

subtest 'a full queue: counted, bounded, and it recovers' => sub {
    my $c = EdgespanTest::Collector->new;
    my $port = $c->port;
    my $n = server(collector => $c, exporter => 'queue_size 1m;');
    burst($n, 100);
    $c->stop;
    my %before = map { $_ => rss_kb($_) } $n->worker_pids;
    # A span takes about 300 bytes: this is several times the queue.
    burst($n, 10000);
    $n->wait_log(qr/\[warn\] .*edgespan: \d+ spans dropped: queue full \(\d+ since the start\)/);
    my %full = map { $_ => rss_kb($_) } $n->worker_pids;
    burst($n, 10000);
    for my $pid ($n->sanitized ? () : $n->worker_pids) {
        cmp_ok rss_kb($pid), '<', $full{$pid} + 300, 'no more memory when full';
        cmp_ok $full{$pid}, '<', $before{$pid} + 6000, 'queue and batches';
    }
    is_deeply [ sort $n->worker_pids ], [ sort keys %before ],
        'the same workers';
    $n->wait_log(qr/\[warn\] .*edgespan: exporting to \Q@{[ $c->url ]}\E: it failed and is tried again: .*onnect/);

    $c->start;
    $n->wait_log(qr/\[notice\] .*edgespan: exporting to \S+: works again/, 10);
    # As long as the queue drains, a new span may still find it full.
    wait_for(sub {
        http_get($n->port(1), '/');
        my $id = ($n->logged_ids)[-1];
        eval { wait_for(sub { $c->span_ids_fast->{$id} }, 0.3) };
    }, 10, 'a new span');
    pass 'it recovers';
    $n->stop;
    my ($made, $received, $dropped) = accounted($n);
    my $reasons = dropped($n);
    is_deeply [ keys %$reasons ], ['queue full'], 'nothing else was dropped';
    cmp_ok $received, '>', 2000, 'what the queue held has arrived';
    $n->finish;
};

subtest 'TERM and QUIT with a full queue and no collector' => sub {
    for my $signal (qw(TERM QUIT)) {
        my $c = EdgespanTest::Collector->new;
        my $n = server(collector => $c, exporter => 'queue_size 1m;');
        $c->stop;
        burst($n, 8000);
        cmp_ok $n->stop($signal), '<', 10, "$signal: in time";
        accounted($n);
        is_deeply [ sort keys %{ dropped($n) } ],
            [ 'not delivered before the shutdown timeout', 'queue full' ],
            'both reasons';
        $n->finish;
    }
};

subtest 'a collector that refuses batches' => sub {
    for my $mode (qw(status:400 status:413 partial:2)) {
        my $c = EdgespanTest::Collector->new(mode => $mode);
        my $n = server(collector => $c);
        for my $i (1 .. 5) {
            http_get($n->port(1), '/');
            $c->wait_requests($i, 5);
        }
        $n->wait_log(qr/\[warn\] .*edgespan: exporting to .*rejected/);
        is scalar(() = $n->error_log =~ /exporting to .* rejected/g), 1,
            'one line, not one for each batch';
        $n->stop;
        my $reasons = dropped($n);
        is_deeply [ keys %$reasons ], ['rejected by the collector'],
            "$mode: reason";
        cmp_ok $reasons->{'rejected by the collector'}, '>', 0, 'counted';
        $n->finish;
    }
};

subtest 'USR1: messages go to the new log' => sub {
    my $n = server();
    my $prefix = $n->prefix;
    http_get($n->port(1), '/');
    $n->collector->wait_spans(1, 5);
    rename "$prefix/error.log", "$prefix/error.log.1" or die $!;
    $n->signal('USR1');
    wait_for(sub { -e "$prefix/error.log" }, 5, 'the new log');
    # The workers follow their master a moment later.
    wait_for(sub { my $all = 1;
        for my $pid ($n->worker_pids) {
            $all = 0 if grep { (readlink // '') =~ /error\.log\.1/ }
                glob "/proc/$pid/fd/*";
        }
        $all }, 5, 'the workers');
    $n->collector->stop;
    http_get($n->port(1), '/');
    $n->wait_log(qr/edgespan: exporting to .* it failed and is tried again/);
    unlike slurp("$prefix/error.log.1"), qr/it failed/, 'not to the old one';
    $n->finish;
};

for my $method (qw(epoll poll select)) {
    subtest "a message of the exporter with \"use $method\"" => sub {
        my $n = EdgespanTest::NginxTraced->new(workers => 2, http => $CONF,
            events => "use $method;");
        my ($ok) = $n->test;
        plan skip_all => "nginx was built without $method" unless $ok;
        $n->start;
        $n->collector->stop;
        http_get($n->port(1), '/');
        $n->wait_log(qr/edgespan: exporting to .* it failed and is tried again/);
        is http_get($n->port(1), '/')->{status}, 200, 'it serves on';
        $n->finish;
    };
}

# A name server that never answers: of a mount namespace of our own.
SKIP: {
    my $why = $> != 0 ? 'only root may mount' : system(
        "unshare -m --propagation private mount --bind /etc/hosts /etc/resolv.conf"
        . ' >/dev/null 2>&1') ? 'no mount namespace here' : '';
    my $dns = IO::Socket::INET->new(LocalAddr => '127.53.53.53', LocalPort => 53,
        Proto => 'udp');
    $why ||= "port 53: $!" unless $dns;
    skip "name server: $why", 4 if $why;

    my $dir = tmpdir();
    open my $fh, '>', "$dir/resolv.conf" or die $!;
    print {$fh} "nameserver 127.53.53.53\noptions timeout:30 attempts:3\n";
    close $fh;
    for my $round (1 .. 2) {
        for my $signal (qw(TERM QUIT)) {
            subtest "a name server that never answers: $signal" => sub {
                my $n = EdgespanTest::NginxTraced->new(workers => 2,
                    http => $CONF, vars => { COLLECTOR =>
                        'http://collector.example.com:4318/v1/traces' },
                    exporter => 'timeout 30s;');
                my $wrapper = $n->write_file('nginx.sh', "#!/bin/sh\n"
                    . "exec unshare -m --propagation private sh -c 'mount --bind "
                    . "$dir/resolv.conf /etc/resolv.conf && exec "
                    . "$n->{program} \"\$@\"' sh \"\$@\"\n");
                $n->{program} = $wrapper;
                $n->start;
                my @took = latencies($n, 300);
                # The query shows that the exporter is in the look-up now.
                my @asked = IO::Select->new($dns)->can_read(5);
                is @asked, 1, 'asked for the name';
                push @took, latencies($n, 100);
                is scalar(grep { $_ >= $PATIENCE } @took), 0,
                    'no request waits';
                cmp_ok $n->stop($signal), '<', 10, 'in time';
                my $made = () = $n->logged_ids;
                is dropped($n)->{'not delivered before the shutdown timeout'},
                    $made, 'all counted';
                # What was asked in vain is of no use to the next round.
                while (IO::Select->new($dns)->can_read(0)) {
                    $dns->recv(my $query, 512);
                }
                $n->finish;
            };
        }
    }
}

done_testing;
