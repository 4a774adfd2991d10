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

# Single-process nginx; prefork with one child: what serves is a first thread.
my %make = (
    nginx => sub {
        my ($traced, %options) = @_;
        my $otel = $traced ? 'otel_trace on; otel_service_name cost;' : '';
        return EdgespanTest::Nginx->new(%options, master => 0, http => <<"END");
    access_log off;
    keepalive_requests 100000;
    otel_exporter { endpoint @{[$collector->url]}; interval 100ms; }
    $otel
    server {
        listen 127.0.0.1:%%PORT%%;
        location = /ok { return 200 "ok\\n"; }
    }
END
    },
    httpd => sub {
        my ($traced, %options) = @_;
        my $otel = $traced ? "OtelTrace On\n" : '';
        return EdgespanTest::Httpd->new(%options, mpm => 'prefork', workers => 1,
            access_log => 0, sizing => <<'SIZING', http => <<"END");
StartServers 1
MinSpareServers 1
MaxSpareServers 1
MaxRequestWorkers 1
SIZING
    OtelExporter @{[$collector->url]} interval=100ms
    $otel
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

for my $name (sort keys %make) {
    subtest "$name: a traced request allocates nothing that an untraced one does not" => sub {
        my $measure = sub { cost_allocations($_[0], '/ok', REQUESTS) };
        my $plain  = run($name, 0, $measure, env => cost_env());
        my $traced = run($name, 1, $measure, env => cost_env());
        cmp_ok $traced, '<=', $plain, "$traced allocations with tracing, $plain without, in "
            . REQUESTS . ' requests';
    };

    SKIP: {
        skip 'strace may not trace a process here', 1 unless cost_can_strace();
        subtest "$name: a traced request makes no system call of its own" => sub {
            my $measure = sub {
                my ($server) = @_;
                my ($pid) = $name eq 'nginx' ? $server->master_pid : $server->worker_pids;
                return cost_calls($server, $pid, '/ok', REQUESTS);
            };
            my ($plain, $traced) = map { run($name, $_, $measure) } 0, 1;
            my $most = (sort { $b <=> $a } values %$plain)[0];
            cmp_ok $most, '>=', REQUESTS, 'strace saw the requests';
            my $wakes = (delete($traced->{write}) // 0) - (delete($plain->{write}) // 0);
            cmp_ok $wakes, '<=', REQUESTS * 512 / 65536 + 1,
                "one wake-up per sealed chunk at most ($wakes)";
            # A client that is late costs either a poll now and then; a call of
            # tracing's own would come with every request.
            my %names = (%$plain, %$traced);
            for my $call (sort keys %names) {
                cmp_ok $traced->{$call} // 0, '<', ($plain->{$call} // 0) + REQUESTS / 10,
                    "$call: no more than untraced";
            }
        };
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
