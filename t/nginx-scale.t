# Thousands of locations, and the rarer ways of changing a server that runs: a binary
# upgrade that is taken back, workers that may not wait for their requests.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# Every SERVER span that the access log names is at the collector, once.
sub all_arrived {
    my ($n, $timeout) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my (%logged, %seen);
    wait_for(sub {
        %logged = map { $_ => 1 } $n->logged_ids;
        %seen = ();
        $seen{ $_->{span_id} }++ for grep { $_->{kind} eq 'SERVER' } $n->collector->spans;
        !grep { !$seen{$_} } keys %logged;
    }, $timeout // 30, 'all spans');
    is_deeply [ grep { $seen{$_} > 1 } keys %seen ], [], keys(%logged) . ' spans, each once';
    return;
}

subtest 'thousands of locations' => sub {
    plan skip_all => 'with a sanitizer' if EdgespanTest::NginxTraced->sanitized;
    my ($few, $many) = (500, 5000);
    # What the master needs for each location more: what is there once does not count.
    my $per_location = sub {
        my ($what, $module, $trace, $words) = @_;
        my @kb = map {
            my $count = $_;
            my %opt = (workers => 1, start_timeout => 120, module => $module, http => "$trace server { listen 127.0.0.1:%%PORT1%%; "
                . join('', map {"location /l$_/ { $words return 200 $_; }\n"} 1 .. $count) . '}');
            my $n = $trace ? EdgespanTest::NginxTraced->new(%opt, trace => undef) : EdgespanTest::Nginx->new(%opt);
            $n->start;
            my $kb = rss_kb($n->master_pid);
            is http_get($n->port(1), "/l$count/x")->{body}, $count, "$what: $count, the last one answers";
            if ($trace) {
                my ($answer, $record) = $n->recorded(sub { http_get($n->port(1), '/l77/x') });
                is $n->server_span($record)->{name}, $words ? 'GET /r' : 'GET /l77/*', 'its span';
            }
            $n->finish;
            $kb;
        } $few, $many;
        return ($kb[1] - $kb[0]) * 1024 / ($many - $few);
    };
    my $without = $per_location->('without the module', 0, '', '');
    for my $case ([ 'a module that is only loaded', 1, '', '' ],
        [ 'locations that are traced', 1, 'otel_trace on;', '' ],
        [ 'locations with directives of their own', 1, 'otel_trace on;',
            'otel_span_attr a $uri; otel_route /r; otel_redact query=a; otel_error_events on;' ]) {
        my $more = $per_location->(@$case) - $without;
        diag sprintf 'memory per location, %s: %d bytes', $case->[0], $more;
        cmp_ok $more, '<', 4096, "$case->[0]: less than 4k for each";
    }
};

subtest 'a binary upgrade that is taken back' => sub {
    # nginx does not hand on the variables that a sanitizer needs.
    plan skip_all => 'with a sanitizer' if EdgespanTest::NginxTraced->sanitized;
    my $n = EdgespanTest::NginxTraced->new(daemon => 1, workers => 2,
        http => 'server { listen 127.0.0.1:%%PORT1%%; location / { return 200 ok; } }')->start;
    my $requests = sub { is http_get($n->port(1), '/')->{status}, 200, 'a request is answered' for 1 .. 5 };
    my $old = $n->master_pid;
    $requests->();
    $n->signal('USR2');
    wait_for(sub { $n->master_pid && $n->master_pid != $old && $n->worker_pids == 2 }, 30, 'the new master');
    my $new = $n->master_pid;
    kill WINCH => $old;
    my $workers_of = sub { grep { proc_title($_) =~ /^nginx: worker/ } children_of($_[0]) };
    wait_for(sub { !grep { $_ != $new } $workers_of->($old) }, 30, 'the old workers to end');
    $requests->();
    kill HUP => $old;
    wait_for(sub { $workers_of->($old) >= 2 }, 30, 'the old master to have workers again');
    $requests->();
    kill QUIT => $new;
    wait_for(sub { !proc_alive($new) }, 30, 'the new master to end');
    wait_for(sub { $n->master_pid == $old && $n->worker_pids == 2 }, 30, 'the pid file of the old one');
    $requests->();
    all_arrived($n);
    $n->finish;
};

subtest 'worker_shutdown_timeout' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        $_[0] =~ m{\A\S+ /hang} ? 'hang' : EdgespanTest::Upstream::http_response() });
    my $n = EdgespanTest::NginxTraced->new(workers => 1, main => 'worker_shutdown_timeout 1s;',
        vars => { UP => $up->address },
        http => 'server { listen 127.0.0.1:%%PORT1%%; location / { proxy_pass http://%%UP%%; } }')->start;
    my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $n->port(1)) or die $!;
    syswrite $sock, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n";
    $up->wait_requests(1, 30);
    my ($answer, $record) = $n->recorded(sub {
        $n->reload(undef, drain => 1, timeout => 60);
        sysread $sock, my $text, 65536;
    }, 1, 60);
    my @spans = $n->trace($record, 2, 30);
    is_deeply [ sort map { $_->{kind} } @spans ], [ 'CLIENT', 'SERVER' ], 'a request that was cut off has its spans';
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    ok !exists $server->{attrs}{'http.response.status_code'}, 'without a status: there was no response';
    is http_get($n->port(1), '/')->{status}, 200, 'the next one is answered';
    all_arrived($n);
    $n->finish;
};

done_testing;
