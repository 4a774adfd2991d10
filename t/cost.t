# What tracing must not do on a request's path: allocate, or call the kernel, but
# for one eventfd write per sealed chunk.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Cost;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

use constant REQUESTS => 600;

my $collector = EdgespanTest::Collector->new;

# Of a server without tracing, one that records everything, and one that asks at the
# end what it keeps.
use constant {UNTRACED => 0, TRACED => 1, KEEPS => 2};
my %directives = (
    nginx => ['', 'otel_trace on; otel_service_name cost;',
        'otel_trace on; otel_sample_rate 0; otel_sample_keep error slow=10s status=429;'],
    httpd => ['', 'OtelTrace On',
        "OtelTrace On\nOtelSampleRate 0\nOtelSampleKeep error slow=10s status=429"],
);
my %what = (TRACED, 'a traced request', KEEPS, 'a request that is not kept');

# Single-process nginx; prefork with one child: what serves is a first thread.
my %make = (
    nginx => sub {
        my ($traced, %options) = @_;
        return EdgespanTest::Nginx->new(%options, master => 0, http => <<"END");
    access_log off;
    keepalive_requests 100000;
    otel_exporter { endpoint @{[$collector->url]}; interval 100ms; }
    $directives{nginx}[$traced]
    server {
        listen 127.0.0.1:%%PORT%%;
        location = /ok { return 200 "ok\\n"; }
    }
END
    },
    httpd => sub {
        my ($traced, %options) = @_;
        return EdgespanTest::Httpd->new(%options, mpm => 'prefork', workers => 1,
            access_log => 0, sizing => <<'SIZING', http => <<"END");
StartServers 1
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
SIZING
    OtelExporter @{[$collector->url]} interval=100ms
    $directives{httpd}[$traced]
    KeepAlive On
    MaxKeepAliveRequests 0
    DocumentRoot %%PREFIX%%/html
    <Directory %%PREFIX%%/html>
        Require all granted
    </Directory>
END
    },
);

sub run {
    my ($name, $traced, $measure, %options) = @_;
    my $server = $make{$name}->($traced, %options);
    $server->write_file('html/ok', "ok\n");
    $server->start;
    my $result = $measure->($server);
    $server->stop;
    $server->finish;
    return $result;
}

sub check_calls {
    my ($plain, $traced) = @_;
    my $most = (sort { $b <=> $a } values %$plain)[0];
    cmp_ok $most, '>=', REQUESTS, 'strace saw the requests';
    my $wakes = ($traced->{write} // 0) - ($plain->{write} // 0);
    cmp_ok $wakes, '<=', REQUESTS * 512 / 65536 + 1, "one wake-up per sealed chunk at most ($wakes)";
    # A call of tracing's own would come with every request.
    my %names = (%$plain, %$traced);
    delete $names{write};
    for my $call (sort keys %names) {
        cmp_ok $traced->{$call} // 0, '<', ($plain->{$call} // 0) + REQUESTS / 10,
            "$call: no more than untraced";
    }
    return;
}

for my $name (sort keys %make) {
    my $allocations = sub { cost_allocations($_[0], '/ok', REQUESTS) };
    my $plain = run($name, UNTRACED, $allocations, env => cost_env());
    for my $how (TRACED, KEEPS) {
        my $traced = run($name, $how, $allocations, env => cost_env());
        cmp_ok $traced, '<=', $plain, "$name: $what{$how} allocates nothing that an untraced one does not: "
            . "$traced allocations, $plain without tracing, in " . REQUESTS . ' requests';
    }

    SKIP: {
        skip 'strace may not trace a process here', 2 unless cost_can_strace();
        my $calls = sub {
            my ($server) = @_;
            my ($pid) = $name eq 'nginx' ? $server->master_pid : $server->worker_pids;
            return cost_calls($server, $pid, '/ok', REQUESTS);
        };
        my $plain = run($name, UNTRACED, $calls);
        for my $how (TRACED, KEEPS) {
            subtest "$name: $what{$how} makes no system call of its own" => sub {
                check_calls($plain, run($name, $how, $calls));
            };
        }
    }
}

subtest 'the counting allocator counts' => sub {
    my $file = cost_env();
    local @ENV{keys %$file} = values %$file;
    system('ls / >/dev/null');
    cmp_ok unpack('Q', slurp($file->{ALLOCATIONS_FILE})), '>', 10, 'those of ls';
};

$collector->stop;
done_testing;
