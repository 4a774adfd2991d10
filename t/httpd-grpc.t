# httpd: gRPC through mod_proxy_http2.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::GrpcCollector;
use EdgespanTest::HttpdTraced;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;
plan skip_all => 'curl has no HTTP/2' unless `curl -V 2>&1` =~ /HTTP2/;

my $METHOD = 'shop.Cart/Add';

my $up = EdgespanTest::GrpcCollector->new;
my $s = traced(http2 => 1, extra => ['proxy_http2'], vars => { UP => $up->port },
    http => 'ProxyPass / h2c://127.0.0.1:%%UP%%/')->start;

# The SERVER span and the CLIENT span of a call with an empty message.
sub call {
    my ($mode, $type) = @_;
    my $file = $s->write_file('message', "\0\0\0\0\0");
    $up->mode($mode);
    my $span = span_of($s, get_h2($s, "/$METHOD", '-H', "content-type: $type",
        '-H', 'te: trailers', '--data-binary', "\@$file"));
    my ($client) = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return ($span, $client);
}

sub rpc {
    my ($span) = @_;
    return [ map { $span->{attrs}{$_} } qw(rpc.system.name rpc.method
        rpc.method_original rpc.response.status_code error.type) ];
}

my @CASES = (
    # mode, name of the status, error of SERVER
    [ 'ok', 'OK', undef ],
    [ 'status:5', 'NOT_FOUND', undef ],
    [ 'status:14', 'UNAVAILABLE', 'UNAVAILABLE' ],
    [ 'trailers_only:16', 'UNAUTHENTICATED', undef ],
    [ 'trailers_only:13', 'INTERNAL', 'INTERNAL' ],
);
for my $case (@CASES) {
    my ($mode, $name, $failure) = @$case;
    subtest "the upstream: $mode" => sub {
        my ($span, $client) = call($mode, 'application/grpc+proto');
        is_deeply rpc($span), [ 'grpc', $METHOD, undef, $name, $failure ], 'SERVER';
        is_deeply rpc($client),
            [ 'grpc', $METHOD, undef, $name, $name eq 'OK' ? undef : $name ], 'CLIENT';
        is $span->{status}{code}, $failure ? 'ERROR' : 'UNSET', 'status of the SERVER span';
        is $_->{attrs}{'http.response.status_code'}, 200, 'HTTP knows nothing'
            for $span, $client;
        my $request = ($up->requests)[-1];
        is EdgespanTest::Collector::header($request, 'traceparent'),
            "00-$span->{trace_id}-$client->{span_id}-03", 'the upstream sees the CLIENT span';
    };
}

subtest 'UNIMPLEMENTED: whoever asks names methods' => sub {
    my ($span, $client) = call('trailers_only:12', 'application/grpc');
    is_deeply rpc($_), [ 'grpc', '_OTHER', $METHOD, ('UNIMPLEMENTED') x 2 ], $_->{kind}
        for $span, $client;
};

subtest 'no answer' => sub {
    my ($span, $client) = call('rst:2', 'application/grpc');
    is_deeply rpc($client), [ 'grpc', $METHOD, undef, undef, 'no_response' ], 'CLIENT';
    is_deeply rpc($span), [ 'grpc', $METHOD, undef, undef, 502 ], 'SERVER';
};

subtest 'what is no gRPC' => sub {
    my ($span, $client) = call('ok', 'application/grpc-web');
    is_deeply rpc($_), [ (undef) x 5 ], $_->{kind} for $span, $client;
};

lint($s);
$s->finish;
done_testing;
