# grpc_pass: calls of gRPC on SERVER and CLIENT spans, and how they ended.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::GrpcCollector;
use EdgespanTest::NginxTraced;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $up = EdgespanTest::GrpcCollector->new;
my $dead = '127.0.0.1:' . free_port();

my $n = EdgespanTest::NginxTraced->new(
    vars => { UP => '127.0.0.1:' . $up->port, DEAD => $dead, PROXY => '' },
    http => <<'CONF');
upstream kept  { server %%UP%%; keepalive 2; }
upstream retry { server %%DEAD%% max_fails=0; server %%UP%% backup; }
server {
    listen 127.0.0.1:%%PORT1%% http2;
    location / { grpc_pass grpc://kept; }
    location /dead { grpc_pass grpc://%%DEAD%%; }
    location /page { error_page 502 = @down; grpc_pass grpc://%%DEAD%%; }
    location @down { default_type application/grpc; add_header grpc-status 14; return 204; }
    location /retry { grpc_pass grpc://retry; }
    location /variable { set $to %%UP%%; grpc_pass grpc://$to; }
    location /new { grpc_pass grpc://%%UP%%; }
    %%PROXY%%
}
CONF
my $proxies = $n->version ge v1.29.4;
$n->{vars}{PROXY} = 'location /proxy { proxy_http_version 2; proxy_pass http://retry; }'
    if $proxies;
$n->start;

# A call, as curl makes it: an empty message. Returns the SERVER span, the CLIENT
# span and the record.
sub call {
    my ($path, %opt) = @_;
    my $file = $n->write_file('message', "\0\0\0\0\0");
    my (undef, $record) = $n->recorded(sub {
        system 'curl', qw(-s -o /dev/null --noproxy * --http2-prior-knowledge),
            '-H', 'content-type: ' . ($opt{type} // 'application/grpc'),
            '-H', 'te: trailers', '--data-binary', "\@$file",
            'http://127.0.0.1:' . $n->port(1) . $path;
    });
    my @spans = $n->trace($record, 2);
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    my ($client) = grep { $_->{kind} eq 'CLIENT' } @spans;
    is @spans, 2, 'two spans';
    is $client->{parent_span_id}, $server->{span_id}, 'CLIENT below SERVER';
    return ($server, $client, $record);
}

sub rpc {
    my ($span) = @_;
    return [ map { $span->{attrs}{$_} } qw(rpc.system.name rpc.method
        rpc.method_original rpc.response.status_code error.type) ];
}

my $METHOD = 'shop.Cart/Add';
my @CASES = (
    # mode, name of the status, error of SERVER, method
    [ 'ok', 'OK', undef ],
    [ 'status:5', 'NOT_FOUND', undef ],
    [ 'status:14', 'UNAVAILABLE', 'UNAVAILABLE' ],
    [ 'trailers_only:16', 'UNAUTHENTICATED', undef ],
    [ 'trailers_only:13', 'INTERNAL', 'INTERNAL' ],
);
for my $case (@CASES) {
    my ($mode, $name, $failure) = @$case;
    subtest "the upstream: $mode" => sub {
        $up->mode($mode);
        my ($server, $client) = call("/$METHOD");
        is_deeply rpc($server), [ 'grpc', $METHOD, undef, $name, $failure ],
            'SERVER';
        is_deeply rpc($client), [ 'grpc', $METHOD, undef, $name,
            $name eq 'OK' ? undef : $name ], 'CLIENT';
        is $server->{status}{code}, $failure ? 'ERROR' : 'UNSET',
            'status of the SERVER span';
        is $_->{attrs}{'http.response.status_code'}, 200, 'HTTP knows nothing'
            for $server, $client;
    };
}

subtest 'UNIMPLEMENTED: whoever asks names methods' => sub {
    $up->mode('trailers_only:12');
    my ($server, $client) = call("/$METHOD");
    is_deeply rpc($_), [ 'grpc', '_OTHER', $METHOD,
        ('UNIMPLEMENTED') x 2 ], $_->{kind} for $server, $client;
};

subtest 'what the upstream was sent is the CLIENT span, times are its own' => sub {
    $up->mode('slow:0.2');
    my ($server, $client) = call("/$METHOD");
    my ($request) = ($up->requests)[-1];
    my $tp = EdgespanTest::Collector::header($request, 'traceparent');
    is +(split /-/, $tp)[2], $client->{span_id}, 'id';
    is $client->{attrs}{'edgespan.upstream.reused'}, 1, 'a kept connection';
    cmp_ok $client->{attrs}{'edgespan.time.upstream_first_byte'}, '>=', 0.199,
        'first byte';
    $up->mode('ok');
    ($server, $client) = call('/variable');
    is $client->{attrs}{'rpc.response.status_code'}, 'OK',
        'resolved at run time';
};

subtest 'the settings of a new connection are no response' => sub {
    $up->mode('slow:0.2');
    my (undef, $client) = call('/new');
    is $client->{attrs}{'edgespan.upstream.reused'}, undef, 'new';
    cmp_ok $client->{attrs}{'edgespan.time.upstream_first_byte'}, '>=', 0.199,
        'first byte';
    $up->mode('ok');
};

subtest 'no answer: the HTTP status is all there is' => sub {
    my ($server, $client) = call('/dead');
    is_deeply rpc($server), [ 'grpc', 'dead', undef, undef, 502 ], 'SERVER';
    is_deeply rpc($client), [ 'grpc', 'dead', undef, undef,
        'connection_failed' ], 'CLIENT';
    $up->mode('rst:2');
    ($server, $client) = call("/$METHOD");
    is_deeply rpc($server), [ 'grpc', $METHOD, undef, undef, 502 ],
        'RST_STREAM: SERVER';
    is $client->{status}{code}, 'ERROR', 'CLIENT';
    $up->mode('ok');
};

subtest 'a status that nginx writes itself' => sub {
    my ($server, $client) = call('/page');
    is $server->{attrs}{'rpc.response.status_code'}, 'UNAVAILABLE', 'SERVER';
    is $client->{attrs}{'rpc.response.status_code'}, undef, 'CLIENT';
};

subtest 'a retry: HPACK hides the id, so the tries share a span' => sub {
    my (undef, $client) = call('/retry');
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @{ $client->{events} } ],
        [ $dead =~ /:(\d+)/, $up->port ], 'two tries';
    my $tp = EdgespanTest::Collector::header(($up->requests)[-1], 'traceparent');
    is +(split /-/, $tp)[2], $client->{span_id}, 'the one that came saw its id';
    is $client->{attrs}{'rpc.response.status_code'}, 'OK', 'the last decides';
    is $client->{attrs}{'http.request.resend_count'}, undef, 'no resend_count';
};

subtest 'proxy_pass over HTTP/2 is no other' => sub {
    plan skip_all => 'this nginx has no proxy_http_version 2' unless $proxies;
    $up->mode('slow:0.2');
    my (undef, $client) = call('/proxy');
    $up->mode('ok');
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @{ $client->{events} } ],
        [ $dead =~ /:(\d+)/, $up->port ], 'two tries share the span';
    my $tp = EdgespanTest::Collector::header(($up->requests)[-1], 'traceparent');
    is +(split /-/, $tp)[2], $client->{span_id}, 'its id came';
    is $client->{attrs}{'http.request.method'}, 'POST', 'method';
    my ($last) = $client->{events}[1]{attrs};
    cmp_ok $last->{'edgespan.time.upstream_first_byte'}, '>=', 0.199,
        'settings are no response';
};

for my $type ('application/grpc+proto', 'application/grpc;x=1', 'application/json',
    'application/grpc-web', 'application/grpcx') {
    subtest "content type $type" => sub {
        my ($server, $client) = call("/$METHOD", type => $type);
        my $want = $type =~ m{grpc(?:[+;]|$)} ? 'grpc' : undef;
        is $_->{attrs}{'rpc.system.name'}, $want, $_->{kind}
            for $server, $client;
    };
}

$n->lint;
$n->finish;
done_testing;
