# OTLP/gRPC from both servers: what arrives, what each answer does to a batch, and
# that every span that was made has arrived or was counted.

use strict;
use warnings;

use List::Util qw(max sum0);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Edge;
use EdgespanTest::Otlp;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $PATH = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

sub start {
    my ($kind, %opt) = @_;
    my $c = EdgespanTest::GrpcCollector->new;
    my $s = edge($kind, [ protocol => 'grpc', %opt ], collector => $c);
    return ($s, $c);
}

# Requests that reached the collector in its mode of now.
sub tried {
    my ($c) = @_;
    return grep { $_->{mode} eq $c->mode } $c->requests;
}

# Every span arrived once or was counted; returns how many were counted.
sub accounted {
    my ($s, $c, $twice) = @_;
    $s->stop;
    my $ids = $c->span_ids_fast;
    my $dropped = dropped_spans($s);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is keys(%$ids) + sum0(values %$dropped), requested($s), requested($s) . ' made: '
        . keys(%$ids) . ' received, ' . sum0(values %$dropped) . ' dropped';
    is max(values %$ids), 1, 'none arrived twice' unless $twice;
    is $c->errors, '', 'the collector understood all';
    $s->finish;
    return $dropped;
}

# Is there a connection to the port?
sub established {
    my ($port) = @_;
    my $hex = sprintf '%04X', $port;
    return slurp('/proc/net/tcp') =~ /^\s*\d+: [0-9A-F]+:$hex [0-9A-F]+:[0-9A-F]+ 01 /m;
}

sub cpu_seconds {
    my $ticks = 0;
    for my $pid (@_) {
        my ($rest) = (slurp("/proc/$pid/stat") // '') =~ /.*\) (.*)/s or next;
        $ticks += sum0((split ' ', $rest)[11, 12]);
    }
    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

for my $kind (qw(nginx httpd)) {
    subtest "$kind: what arrives" => sub {
        my ($s, $c) = start($kind, header => $kind eq 'nginx'
            ? 'X-Tenant a-b' : 'X-Tenant:a-b');
        for my $n (1 .. 5) {
            request($s);
            $c->wait_spans($n);
        }
        my @spans = $c->spans;
        is_deeply [ map { "$_->{kind} $_->{attrs}{'http.response.status_code'}" }
            @spans ], [ ('SERVER 200') x 5 ], 'spans';
        is join("\n", EdgespanTest::Otlp::lint(\@spans)), '', 'that keep the rules';
        is $spans[0]{resource}{'service.name'}, 'edge', 'resource';
        my @requests = $c->requests;
        my $first = $requests[0];
        is $first->{request_line}, "POST $PATH HTTP/2", 'the method';
        is header($first, 'content-type'), 'application/grpc', 'content-type';
        is header($first, 'te'), 'trailers', 'te';
        is header($first, 'x-tenant'), 'a-b', 'the configured header';
        is header($first, 'grpc-encoding'), undef, 'not compressed';
        like header($first, 'user-agent'), qr{^edgespan/\S+ OTel-OTLP-Exporter-C/},
            'user-agent';
        my %connections = map { $_->{conn} => 1 } @requests;
        is keys %connections, EdgespanTest::GrpcCollector::libcurl_has_bug_10634() ? @requests : 1,
            'connections';
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: compressed" => sub {
        my ($s, $c) = start($kind, compression => 'gzip');
        request($s, 40);
        $c->wait_spans(40);
        my ($largest) = sort { $b->{size} <=> $a->{size} } $c->requests;
        is header($largest, 'grpc-encoding'), 'gzip', 'grpc-encoding';
        is header($largest, 'content-encoding'), undef, 'which is not HTTP\'s';
        is unpack('C', slurp($largest->{file})), 1, 'flag';
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: answers after which a batch is sent again" => sub {
        my ($s, $c) = start($kind);
        for my $mode (qw(status:1 status:4 status:10 status:11 status:14
            status:15 trailers_only:14 http:429 http:502 http:503 http:504
            rst:7 rst:8 goaway reset status:8:later:0.2)) {
            $c->mode($mode);
            request($s, 3);
            wait_for(sub { tried($c) >= 2 }, 15, "a second try after $mode");
            $c->mode('ok');
            $c->wait_spans(requested($s), 15);
            pass $mode;
        }
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: answers after which it is dropped and counted" => sub {
        my ($s, $c) = start($kind);
        my $n = 0;
        for my $mode (qw(status:2 status:3 status:5 status:6 status:7 status:8
            status:9 status:12 status:13 status:16 status:17 trailers_only:3
            http:400 http:401 http:403 http:404 http:431 http:500 http:200
            rst:1 rst:2 rst:11 rst:12 late_rst:0 late_rst:8)) {
            $c->mode($mode);
            request($s);
            wait_for(sub { tried($c) == 1 }, 15, $mode);
            $n++;
            $c->mode('ok');
            request($s);
            $c->wait_spans(requested($s) - $n, 15);
            pass $mode;
        }
        $s->wait_log(qr/exporting to \S+: a batch was rejected: gRPC status 2 UNKNOWN/);
        is_deeply accounted($s, $c), { 'rejected by the collector' => $n },
            'counted';
    };

    subtest "$kind: larger answers than anybody needs" => sub {
        my ($s, $c) = start($kind);
        request($s);
        $c->wait_spans(1);
        my %before = map { $_ => rss_kb($_) } $s->worker_pids;
        my $n = 1;
        for my $mode (qw(big:5000000 flood:100000)) {
            $c->mode($mode);
            request($s);
            wait_for(sub { tried($c) == 1 }, 15, $mode);
            $c->mode('ok');
            request($s);
            $c->wait_requests($n += 2, 15);
        }
        # At some size libcurl itself gives up before we do: it is tried again.
        $c->mode('flood:4000000');
        request($s);
        wait_for(sub { tried($c) }, 15, 'a flood');
        for my $pid ($s->worker_pids) {
            cmp_ok rss_kb($pid), '<', $before{$pid} + 8000, 'little memory';
        }
        like $s->error_log, qr/its answer is too large/, 'told';
        $s->stop;
        cmp_ok dropped_spans($s)->{'rejected by the collector'}, '>=', 2, 'counted';
        $s->finish;
    };

    subtest "$kind: RetryInfo is obeyed" => sub {
        my ($s, $c) = start($kind);
        $c->mode('status:8:overloaded%2C%20sorry:1.7');
        request($s);
        $s->wait_log(qr/it failed and is tried again: gRPC status 8 RESOURCE_EXHAUSTED: overloaded, sorry/);
        $c->mode('ok');
        request($s, 3);
        $c->wait_spans(4, 15);
        my @requests = $c->requests;
        cmp_ok $requests[1]{time} - $requests[0]{time}, '>=', 1.7, 'waited';
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: partial success" => sub {
        my ($s, $c) = start($kind);
        $c->mode('partial:2');
        request($s, 1);
        # One of one: no more than there was.
        $s->wait_log(qr/a part of a batch was rejected: x/);
        $s->stop;
        is_deeply dropped_spans($s), { 'rejected by the collector' => 1 }, 'counted';
        is scalar(my @all = $c->requests), 1, 'and not sent again';
        $s->finish;
    };

    subtest "$kind: GOAWAY behind some answers" => sub {
        my ($s, $c) = start($kind);
        for my $n (1, 2, 3) {
            $c->mode("goaway:$n");
            request($s, 30);
            $c->wait_spans(requested($s), 20);
            pass "after $n";
        }
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: a collector that hangs, then works" => sub {
        my ($s, $c) = start($kind, timeout => '300ms');
        $c->mode('hang');
        request($s, 3);
        $s->wait_log(qr/it failed and is tried again: .*timed out/i);
        my %hung = map { $_->{conn} => 1 } $c->requests;
        $c->mode('ok');
        $c->wait_spans(3, 15);
        is scalar(grep { $hung{ $_->{conn} } && $_->{answered} eq '200' }
            $c->requests), 0, 'by another connection';
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: a collector that reads nothing costs no CPU" => sub {
        my ($s, $c) = start($kind, interval => '1s', timeout => '3s');
        $c->mode('blackhole');
        # More than a window of HTTP/2, which is 64 KiB unless somebody widens it.
        request($s, 400);
        wait_for(sub { established($c->port) }, 10, 'a call');
        my $from = time;
        my $used = cpu_seconds($s->worker_pids);
        $s->wait_log(qr/it failed and is tried again: .*timed out/i, 15);
        $used = cpu_seconds($s->worker_pids) - $used;
        cmp_ok $used, '<', 0.25 * (time - $from), sprintf '%.2f s', $used;
        $c->mode('ok');
        $c->wait_spans(400, 15);
        is keys %{ accounted($s, $c, 1) }, 0, 'nothing was dropped';
    };

    subtest "$kind: a collector that is away for a while" => sub {
        my ($s, $c) = start($kind);
        request($s, 3);
        $c->wait_spans(3);
        $c->stop;
        request($s, 3);
        $s->wait_log(qr/it failed and is tried again/);
        $c->start;
        $c->wait_spans(6, 15);
        $s->wait_log(qr/exporting to \S+: works again/);
        is keys %{ accounted($s, $c) }, 0, 'nothing was dropped';
    };

    subtest "$kind: a stop while calls are under way" => sub {
        my ($s, $c) = start($kind, timeout => '30s');
        $c->mode('hang');
        request($s, 3);
        $c->wait_requests(1);
        cmp_ok $s->stop, '<', 5, 'in time';
        is_deeply dropped_spans($s), { 'not delivered before the shutdown timeout' => 3 },
            'counted';
        $s->finish;
    };
}

done_testing;
