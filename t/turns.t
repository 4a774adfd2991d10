# What the exporter thread does while there is nothing that it could do: a clock
# that differs, a spool that another process replays, a neighbour that hangs.

use strict;
use warnings;

use IO::Socket::INET;
use List::Util qw(sum0);
use List::Util qw(max sum0);
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Edge;
use EdgespanTest::NginxTraced;

# Seconds of processor time that all but a process's first thread have had.
sub thread_cpu {
    my ($pid) = @_;
    my $ticks = 0;
    for my $file (glob "/proc/$pid/task/*/stat") {
        next if $file =~ m{/task/$pid/};
        my @fields = split ' ', (slurp($file) // '') =~ s/.*\) //sr;
        $ticks += ($fields[11] // 0) + ($fields[12] // 0);
    }
    return $ticks / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {

    # libcurl gives the seconds from now, however few.
    for my $ago (5, 10 * 365 * 86400) {
        subtest "$kind: Retry-After $ago s ago" => sub {
            my $date = strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime time - $ago);
            my $c = EdgespanTest::Collector->new(mode => "status:503:Retry-After=$date");
            my $s = edge($kind, [], collector => $c);
            burst($s, 100);
            wait_for(sub { scalar(() = $c->requests) }, 5, 'a try');
            sleep 2;
            my $tries = () = $c->requests;
            cmp_ok $tries, '<', 20, "and no more than is due: $tries times";
            wait_for(sub { (() = $c->requests) > 1 }, 5, 'another try');
            $c->mode('ok');
            ok eval {
                wait_for(sub { keys %{ $c->span_ids_fast } == 100 }, 5, 'all spans');
            }, 'all spans arrive';
            $s->stop;
            $s->finish;
        };
    }

    subtest "$kind: no time to stop, but a spool" => sub {
        my $c = EdgespanTest::Collector->new;
        my $dir = tmpdir() . '/spool';
        my @options = (shutdown_timeout => '0s', spool => "$dir max=64m");
        my $s = edge($kind, [@options], collector => $c);
        $c->stop;
        burst($s, 3000);
        my $took = $s->stop;
        cmp_ok $took, '<', 8, sprintf 'stopped in %.2f s', $took;
        is_deeply dropped_spans($s), {}, 'nothing is dropped';
        my $made = made($s);
        $s->finish;

        $c->start;
        my $again = edge($kind, [@options], collector => $c);
        ok eval {
            wait_for(sub { keys %{ $c->span_ids_fast } == keys %$made }, 10, 'all spans');
        }, 'all spans arrive';
        $again->stop;
        $again->finish;
    };
}

# A worker that goes on serving after a reload has the spool's lock: the next
# generation fails, too, and has nothing to ask with.
subtest 'a spool that the generation before replays' => sub {
    my $c = EdgespanTest::Collector->new;
    my $dir = tmpdir() . '/spool';
    my $s = edge('nginx', [ timeout => '1s', spool => "$dir max=64m" ], collector => $c,
        workers => 1,
        http => { nginx => 'location /slow { limit_rate 1; alias /etc/; }' });
    $c->stop;
    burst($s, 100);
    my $lasting = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
        PeerPort => $s->{edge_port}->()) or die "connect: $!";
    syswrite $lasting, "GET /slow/services HTTP/1.1\r\nHost: x\r\n\r\n";
    sysread $lasting, my $head, 10;
    $s->reload(undef, drain => 0);
    my ($new) = $s->worker_pids;
    burst($s, 100);
    wait_for(sub { my @segments = glob "$dir/*-$new-*.spool"; @segments }, 15,
        'a segment of the new generation');
    sleep 2.5; # the longest back-off, and more
    my $before = thread_cpu($new);
    sleep 2;
    cmp_ok thread_cpu($new) - $before, '<', 0.2, 'its thread sleeps';
    close $lasting;
    $c->start;
    ok eval {
        wait_for(sub { keys %{ $c->span_ids_fast } >= 200 }, 15, 'all spans');
    }, 'all spans arrive';
    $s->stop;
    is scalar(grep { $_ > 1 } values %{ $c->span_ids_fast }), 0, 'none came twice';
    $s->finish;
};

# Two paths of one host, as behind a proxy: connections are not shared out.
subtest 'one of two exporters hangs, at the same host' => sub {
    my ($hangs, $lives) = map { EdgespanTest::Collector->new } 1, 2;
    $hangs->mode('hang');
    my $more = 'interval 20ms; batch_size 50; timeout 5m;';
    my $s = EdgespanTest::NginxTraced->new(workers => 1,
        exporter => "}\n    otel_exporter { endpoint http://127.0.0.1:%%PORT2%%/hangs; $more }\n"
            . "    otel_exporter { endpoint http://127.0.0.1:%%PORT2%%/lives; $more",
        http => "keepalive_requests 100000;\n"
            . "server { listen 127.0.0.1:%%PORT1%%; location / { return 200 ok; } }\n"
            . "server { listen 127.0.0.1:%%PORT2%%; otel_trace off; access_log off;\n"
            . ' location = /hangs { proxy_pass ' . $hangs->url . "; }\n"
            . ' location = /lives { proxy_pass ' . $lives->url . "; } }\n");
    $s->{edge_port} = sub { $s->port(1) };
    $s->start;
    for (1 .. 6) {
        burst($s, 300);
        sleep 0.3;
    }
    ok eval {
        wait_for(sub { keys %{ $lives->span_ids_fast } == 1800 }, 4, 'all spans');
    }, 'the other gets all spans';
    $s->stop;
    $s->finish;
};

# Each batch is taken, slowly: no turn may take as long as all that wait.
subtest 'a pipe that is read slowly' => sub {
    my $fifo = tmpdir() . '/fifo';
    POSIX::mkfifo($fifo, 0666) or die "mkfifo: $!";
    my $reader = fork // die "fork: $!";
    if (!$reader) {
        open my $fh, '<', $fifo or POSIX::_exit(1);
        # All of it would take half a minute, however slow the rest is.
        while (sysread $fh, my $bytes, 4096) { sleep 0.006 }
        POSIX::_exit(0);
    }
    my $s = edge('nginx', [ batch_size => 200 ], endpoint => "file://$fifo", workers => 1);
    burst($s, 30_000);
    my $took = $s->stop;
    cmp_ok $took, '<', 8, sprintf 'stopped in %.2f s', $took;
    cmp_ok dropped_spans($s)->{'not delivered before the shutdown timeout'} // 0, '>', 0,
        'what was not written is counted';
    $s->finish;
    kill KILL => $reader;
    waitpid $reader, 0;
};

# The one that hangs keeps what it has in batches; the others have the rest.
subtest 'a small queue, and one of two exporters hangs' => sub {
    my ($hangs, $lives) = map { EdgespanTest::Collector->new } 1, 2;
    $hangs->mode('hang');
    my $s = EdgespanTest::NginxTraced->new(collector => $hangs, workers => 2,
        exporter => "timeout 2s; queue_size 1m; }\n"
            . '    otel_exporter { endpoint ' . $lives->url . '; interval 20ms;',
        http => "keepalive_requests 100000;\n"
            . 'server { listen 127.0.0.1:%%PORT1%%; location / { return 200 ok; } }');
    $s->{edge_port} = sub { $s->port(1) };
    $s->start;
    for (1 .. 6) {
        burst($s, 1000);
        sleep 1;
    }
    ok eval {
        wait_for(sub { keys %{ $lives->span_ids_fast } == 6000 }, 5, 'all spans');
    }, 'the other gets all spans';
    $s->stop;
    is dropped_spans($s)->{'queue full'}, undef, 'the queue is never full';
    is keys %{ made($s) }, 6000, 'all were made';
    is sum0(values %{ dropped_spans($s) }), 6000, 'what the one did not get is counted, once';
    $s->finish;
};

done_testing;
