# Sampling where nginx goes ways of its own: what is kept behind internal redirects
# and where phases are left out, places inside of places, rates that vary.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $up = EdgespanTest::Upstream->new(respond => sub {
    my ($bytes) = @_;
    my ($path) = $bytes =~ m{\A\S+ (\S+)};
    my $length = 'Content-Length: 3';
    return [ delay => 2.2 ], "HTTP/1.1 200 OK\r\n$length\r\n\r\nok\n" if $path =~ /late/;
    return "HTTP/1.1 200 OK\r\n$length\r\n\r\n", [ delay => 2.2 ], "ok\n"
        if $path =~ /longwinded/;
    return "HTTP/1.1 200 OK\r\nX-Accel-Redirect: $1\r\n$length\r\n\r\nok\n"
        if $path =~ m{accel(/\S+)};
    my ($status) = $path =~ m{status/(\d+)};
    return "HTTP/1.1 " . ($status // 200) . " So\r\n$length\r\n\r\nok\n";
});

my $n = EdgespanTest::NginxTraced->new(vars => { UP => $up->address },
    files => { 'html/lost' => 'lost' }, http => <<'CONF');
log_format why '$request_uri $otel_decision';
access_log %%PREFIX%%/why.log why;
proxy_http_version 1.1;
split_clients $otel_trace_id $share { 50% 100%; * 0; }
otel_override override;

# nothing is sampled, much is kept
server {
    listen 127.0.0.1:%%PORT1%%;
    otel_sample_rate 0;
    otel_sample_keep error slow=2s status=404;
    location / { proxy_pass http://%%UP%%; }
    location /shown { add_header X-Why $otel_decision always; proxy_pass http://%%UP%%; }
    location /page { proxy_intercept_errors on; error_page 503 /lost; proxy_pass http://%%UP%%; }
    location = /lost { otel_sample_keep off; }
    location /hidden { proxy_intercept_errors on; error_page 503 =200 /lost; proxy_pass http://%%UP%%; }
    location /named { proxy_intercept_errors on; error_page 503 @lost; proxy_pass http://%%UP%%; }
    location @lost { otel_sample_keep status=503; return 503; }
    location /try { try_files /none =404; }
    location /accel/ { proxy_pass http://%%UP%%; }
    location /variable { set $to %%UP%%; proxy_pass http://$to; }
    location /off { otel_trace $arg_on; proxy_pass http://%%UP%%; }
    location /keepnot { otel_sample_keep off; proxy_pass http://%%UP%%; }
    location /if { if ($arg_not) { otel_sample_keep off; } proxy_pass http://%%UP%%; }
}
server {
    listen 127.0.0.1:%%PORT3%%;
    otel_sample_limit 1r/m;
    otel_sample_keep slow=2s;
    location / { otel_trace_context extract; proxy_pass http://%%UP%%; }
}
server {
    listen 127.0.0.1:%%PORT2%%;
    otel_sample_rate 0;
    otel_sample_keep status=400 status=403;
    return 403;
}

# places inside of places
server {
    listen 127.0.0.1:%%PORT4%%;
    otel_sample_rate $arg_r;
    location / { return 200 $otel_decision; }
    location /constant { otel_sample_rate 0; return 200 $otel_decision;
        location /constant/inner { return 200 $otel_decision; } }
    location /always { otel_sampler always_on; return 200 $otel_decision;
        location /always/inner { return 200 $otel_decision; }
        location /always/ratio { otel_sampler traceidratio; return 200 $otel_decision; } }
    location /target { otel_sample_target 1000r/s min=100%; return 200 $otel_decision; }
    location /ratio { otel_sampler traceidratio; return 200 $otel_decision; }
    location /share { otel_sample_rate $share; return 200 "$otel_decision $share"; }
    location /if { if ($arg_x) { otel_sampler always_off; } return 200 $otel_decision; }
    location /if2 { if ($arg_x) { otel_sample_rate 100%; return 200 $otel_decision; }
        return 200 $otel_decision; }
    location /checkout { rewrite ^ /inside last; }
    location /inside { return 200 $otel_decision; }
}
CONF
$n->write_file('override', "/checkout 100% until 2999-01-01T00:00\n");
$n->start;

# [port, path, attribute edgespan.sampling.reason, CLIENT spans, the log]
my @keep = (
    [ 1, '/status/200', undef, 0, 'drop ratio=0' ],
    [ 1, '/status/503', 'error', 1, 'keep error' ],
    [ 1, '/status/404', 'status', 1, 'keep status' ],
    [ 1, '/late', 'slow', 1, 'keep slow' ],
    [ 1, '/longwinded', undef, 0, 'drop ratio=0' ],
    [ 1, '/shown/status/503', 'error', 1, 'keep error' ],
    [ 1, '/page/status/503', 'error', 1, 'keep error' ],
    [ 1, '/hidden/status/503', undef, 0, 'drop ratio=0' ],
    [ 1, '/named/status/503', 'status', 1, 'keep status' ],
    [ 1, '/try', 'status', 0, 'keep status' ],
    [ 1, '/accel/status/503', 'error', 2, 'keep error' ],
    [ 1, '/variable/status/503', 'error', 1, 'keep error' ],
    [ 1, '/off/status/503', undef, 0, 'drop off' ],
    [ 1, '/keepnot/status/503', undef, 0, 'drop ratio=0' ],
    [ 1, '/if/status/503', 'error', 1, 'keep error' ],
    [ 1, '/if/status/503?not=1', undef, 0, 'drop ratio=0' ],
    [ 2, '/return', 'status', 0, 'keep status' ],
    [ 3, '/longwinded?2', undef, 0, 'limit' ],
    [ 3, '/late?2', 'slow', 1, 'keep slow' ],
);

# The first takes what the limit has.
http_get($n->port(3), '/');

for my $case (@keep) {
    my ($port, $path, $reason, $clients, $why) = @$case;
    subtest "otel_sample_keep: $path" => sub {
        my ($answer, $record) = $n->recorded(sub { http_get($n->port($port), $path) });
        my $said = wait_for(sub {
            slurp($n->prefix . '/why.log') =~ /^\Q$path\E (.*)\n\z/m ? $1 : undef;
        }, 5, "a line about $path");
        like $said, qr/^\Q$why\E(?: \(nginx\.conf:\d+\))?$/, 'the log says why';
        if (!defined $reason) {
            # Whatever were pushed would be at the collector before the next.
            my (undef, $next) = $n->recorded(sub { http_get($n->port(4), '/always') });
            $n->server_span($next);
            return is scalar(grep { $_->{trace_id} eq $record->{trace} }
                $n->collector->spans), 0, 'no span';
        }
        my @spans = $n->trace($record, 1 + $clients);
        is @spans, 1 + $clients, 'spans';
        my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
        is $server->{attrs}{'edgespan.sampling.reason'}, $reason, 'reason';
        is $server->{flags} & 1, 0, 'not sampled';
        for my $client (grep { $_->{kind} eq 'CLIENT' } @spans) {
            is $client->{parent_span_id}, $server->{span_id}, 'CLIENT span below';
            cmp_ok $client->{start}, '>', $server->{start}, 'within';
            cmp_ok $client->{end}, '<', $server->{end}, 'by its own clock';
        }
        is header($answer, 'X-Why') =~ s/ \(.*//r, 'drop ratio=0',
            'the header says what the head decided' if $path =~ /shown/;
    };
}

subtest 'otel_sample_keep: a malformed request' => sub {
    my (undef, $record) = $n->recorded(sub { http_raw($n->port(2), "GET / HTTP/1.1\r\nx\r\n\r\n") });
    is $n->server_span($record)->{attrs}{'edgespan.sampling.reason'}, 'status', 'kept';
};

subtest 'the innermost word counts, also where an outer rate varies' => sub {
    my $why = sub {
        my ($path) = @_;
        return http_get($n->port(4), $path)->{body} =~ s/ \(nginx\.conf:\d+\)//r;
    };
    for my $case ([ '/?r=1', 'ratio=1' ], [ '/?r=0', 'drop ratio=0' ],
        [ '/?r=nonsense', 'drop ratio=0' ], [ '/constant?r=1', 'drop ratio=0' ],
        [ '/constant/inner?r=1', 'drop ratio=0' ], [ '/always?r=0', 'always_on' ],
        [ '/always/inner?r=0', 'always_on' ], [ '/target?r=0', 'target=1' ],
        [ '/ratio?r=0', 'drop ratio=0' ], [ '/ratio?r=1', 'ratio=1' ],
        [ '/always/ratio?r=0', 'drop ratio=0' ],
        [ '/if?r=1', 'ratio=1' ], [ '/if?r=1&x=1', 'drop always_off' ],
        [ '/if2?r=0', 'drop ratio=0' ], [ '/if2?r=0&x=1', 'ratio=1' ]) {
        is $why->($case->[0]), $case->[1], $case->[0];
    }
    my %share;
    $share{ $why->('/share') }++ for 1 .. 60;
    is_deeply [ sort keys %share ], [ 'drop ratio=0 0', 'ratio=1 100%' ],
        'split_clients $otel_trace_id gives both';
};

subtest 'places are told by file and line' => sub {
    my @lines = split /\n/, slurp($n->prefix . '/nginx.conf');
    my ($at) = grep { $lines[ $_ - 1 ] =~ m{location /constant } } 1 .. @lines;
    is http_get($n->port(4), '/constant')->{body}, "drop ratio=0 (nginx.conf:$at)", 'a location';
    is http_get($n->port(4), '/constant/inner')->{body}, "drop ratio=0 (nginx.conf:$at)", 'inherited';
};

subtest 'otel_override means the path that the client asked for' => sub {
    wait_for(sub { http_get($n->port(4), '/checkout/1?r=0')->{body} =~ /override/ }, 5,
        'the override file to be read');
    is http_get($n->port(4), '/checkout/1?r=0')->{body}, 'override=1 (override:1)', 'rewritten';
    like http_get($n->port(4), '/inside?r=0')->{body}, qr/^drop ratio=0/, 'and no other';
};

$n->lint;
$n->finish;
done_testing;
