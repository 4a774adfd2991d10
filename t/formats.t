# One list of requests through both servers, exported in every format at once:
# what arrives as Zipkin's, Jaeger's and OTLP's JSON has to be what arrives as
# OTLP's protobuf.

use strict;
use warnings;
use utf8;

use Encode ();
use JSON::PP ();
use List::Util qw(max);
use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;
use EdgespanTest::Upstream;

binmode $_, ':utf8' for Test::More->builder->output, Test::More->builder->failure_output;

my %FORMAT = (
    'http/protobuf' => [ '/v1/traces', 'application/x-protobuf' ],
    'http/json' => [ '/v1/traces', 'application/json' ],
    zipkin => [ '/api/v2/spans', 'application/json' ],
    jaeger => [ '/api/traces?format=jaeger.thrift', 'application/vnd.apache.thrift.binary' ],
);

my $up = EdgespanTest::Upstream->new(respond => sub {
    my ($path) = $_[0] =~ m{\A\S+ (\S+)};
    my $status = $path =~ m{fails} ? 503 : 200;
    return "HTTP/1.1 $status x\r\nContent-Length: 2\r\n\r\nok";
});
my $dead = '127.0.0.1:' . free_port();

sub collectors { return { map { $_ => EdgespanTest::Collector->new } keys %FORMAT } }

sub nginx {
    my ($c) = @_;
    return EdgespanTest::Nginx->new(allow => qr/connect\(\) failed/, workers => 2,
        http => join "\n",
        (map { "otel_exporter { endpoint @{[ $c->{$_}->base ]}; protocol $_; interval 30ms; }" }
            sort keys %FORMAT),
        Encode::encode('UTF-8', <<"END"));
otel_service_name "Grüße ☃";
otel_resource_attr service.namespace shop;
otel_resource_attr "quo\\"te" 'a\\b"c';
otel_trace on;
otel_error_events on;
upstream second { server $dead max_fails=0; server @{[ $up->address ]} backup; }
server {
    listen 127.0.0.1:%%PORT%%;
    location /one   { proxy_pass http://@{[ $up->address ]}; }
    location /fails { proxy_pass http://@{[ $up->address ]}; }
    location /retry { proxy_pass http://second; }
    location /dead  { proxy_pass http://$dead; }
    location /sub   { auth_request /auth; proxy_pass http://@{[ $up->address ]}; }
    location /auth  { proxy_pass http://@{[ $up->address ]}; }
    location /odd   {
        return 200 "x";
        otel_span_attr number 17 int;
        otel_span_attr half 0.5 double;
        otel_span_attr no off bool;
        otel_span_header request user-agent;
        otel_span_name "näme \\\\ \\"☃\\"";
        otel_span_attr empty \$http_nothing;
        otel_span_attr "schlüssel 😀" "wert\n\t\\"\\\\ 😀";
        otel_span_attr error False;
        otel_span_attr peer.service "billing";
    }
}
END
}

sub httpd {
    my ($c) = @_;
    my $vhosts = join '', map { <<"END" } qw(a b c);
<VirtualHost *>
    ServerName $_
    OtelServiceName service-$_
    ProxyPass /one http://@{[ $up->address ]}/one
    ProxyPass /fails http://@{[ $up->address ]}/fails
    ProxyPass /retry http://@{[ $up->address ]}/retry
    ProxyPass /dead http://$dead/
    <Location /odd>
        OtelSpanName "näme \\\\ \\"☃\\""
        OtelSpanAttr "schlüssel 😀" "wert\t\\"\\\\ 😀"
        OtelSpanAttr error False
        OtelSpanAttr number 17 int
        OtelSpanAttr half 0.5 double
        OtelSpanAttr no off bool
        OtelSpanHeader request user-agent
    </Location>
</VirtualHost>
END
    return EdgespanTest::Httpd->new(allow => qr/AH00957|AH01114|AH00959/, http => join "\n",
        (map { "OtelExporter @{[ $c->{$_}->base ]} protocol=$_ interval=30ms compression=gzip" }
            sort keys %FORMAT),
        Encode::encode('UTF-8', <<"END"));
OtelServiceName "main"
OtelResourceAttr service.namespace shop
OtelTrace On
$vhosts
END
}

# --- What each format is to have of a span ---------------------------------

sub us { return $_[0] - $_[0] % 1000 }

# Tags that stand for what is no attribute.
sub tags {
    my ($p, %more) = @_;
    my $version = $p->{scope}{version};
    return { %{ $p->{attrs} },
        'otel.scope.name' => 'edgespan', 'otel.scope.version' => $version,
        'otel.library.name' => 'edgespan', 'otel.library.version' => $version,
        $p->{trace_state} ne '' ? ('w3c.tracestate' => $p->{trace_state}) : (),
        $p->{status}{code} ne 'UNSET' ? ('otel.status_code' => $p->{status}{code}) : (),
        %more };
}

# Zipkin has text only: numbers may be written in another way, arrays are JSON.
sub from_text {
    my ($text, $type) = @_;
    return $text if !defined $text;
    return 0 + $text if $type eq 'double';
    return $text eq 'true' ? 1 : 0 if $type eq 'bool';
    return JSON::PP->new->decode($text) if $type =~ /\[\]$/;
    return $text;
}

sub is_common {
    my ($have, $p) = @_;
    is $have->{$_}, $p->{$_}, $_ for qw(trace_id span_id parent_span_id name kind);
    is $have->{start}, us($p->{start}), 'start in microseconds';
    is $have->{end} - $have->{start}, max(1000, us($p->{end} - $p->{start})), 'duration';
    is $have->{resource}{'service.name'}, $p->{resource}{'service.name'}, 'service.name';
    return;
}

my %IS = (
    'http/json' => sub {
        my ($have, $p) = @_;
        my %p = map { $_ => $p->{$_} } grep { $_ ne 'request_n' } keys %$p;
        my %have = map { $_ => $have->{$_} } grep { $_ ne 'request_n' } keys %$have;
        is_deeply \%have, \%p, 'the same';
    },
    zipkin => sub {
        my ($have, $p) = @_;
        is_common($have, $p);
        my $failed = $p->{status}{code} eq 'ERROR';
        my $tags = tags($p, 'service.namespace' => 'shop',
            $failed ? (error => $p->{status}{message}) : ());
        delete $tags->{error} unless $failed;
        my %have = map { $_ => from_text($have->{attrs}{$_}, $p->{attr_types}{$_} // '') }
            keys %{ $have->{attrs} };
        is_deeply \%have, $tags, 'tags';
        my $attrs = $p->{attrs};
        is_deeply $have->{raw}{remoteEndpoint}, $p->{kind} ne 'CLIENT' ? undef : {
            serviceName => $attrs->{'server.address'},
            $attrs->{'network.peer.address'} ? (ipv4 => $attrs->{'network.peer.address'},
                port => $attrs->{'network.peer.port'}) : () }, 'remoteEndpoint';
        is_deeply [ map { $_->{time} } @{ $have->{events} } ],
            [ map { us($_->{time}) } @{ $p->{events} } ], 'annotations: times';
        for my $i (0 .. $#{ $p->{events} }) {
            my ($name, $json) = $have->{events}[$i]{text} =~ /^"(.*?)":(.*)$/;
            is $name, $p->{events}[$i]{name}, 'annotation';
            is_deeply(JSON::PP->new->decode($json), $p->{events}[$i]{attrs}, 'its attributes');
        }
    },
    jaeger => sub {
        my ($have, $p) = @_;
        is_common($have, $p);
        my $failed = $p->{status}{code} eq 'ERROR';
        # Arrays are JSON; a subrequest has no kind.
        my @arrays = grep { $p->{attr_types}{$_} =~ /\[\]$/ } keys %{ $p->{attrs} };
        my %have = (%{ $have->{attrs} },
            map { $_ => JSON::PP->new->decode($have->{attrs}{$_}) } @arrays);
        is_deeply \%have, tags($p, $p->{kind} ne 'INTERNAL' ? ('span.kind' => lc $p->{kind}) : (),
            $failed ? (error => 1) : ()), 'tags';
        my %types = (%{ $p->{attr_types} }, (map { $_ => 'string' } @arrays),
            $failed ? (error => 'bool') : ());
        is_deeply +{ map { $_ => $have->{attr_types}{$_} } keys %types }, \%types, 'their types';
        is_deeply $have->{resource}, $p->{resource}, 'process tags';
        is_deeply [ map { { %$_, time => us($_->{time}) } } @{ $have->{events} } ],
            [ map { { time => us($_->{time}), attrs => { event => $_->{name}, %{ $_->{attrs} } } } }
                @{ $p->{events} } ], 'logs';
    },
);

for my $kind (qw(nginx httpd)) {
    my $c = collectors();
    my $server = ($kind eq 'nginx' ? nginx($c) : httpd($c))->start;
    my @hosts = $kind eq 'nginx' ? 'a' : qw(a b c d);
    my $requests = 0;
    for my $round (1 .. 3) {
        for my $path (qw(/one?q=%C3%BC&x="%22 /fails /retry /dead /odd /missing /sub)) {
            for my $host (@hosts) {
                http_get($server->port, $path, host => $host, headers => [
                    [ 'User-Agent', "b\xff\xfed \xe2\x98\x83" ], [ tracestate => 'a=b,c=d' ],
                    $round == 2 ? [ traceparent =>
                        '00-ff112233445566778899aabbccddeeff-f0f1f2f3f4f5f6f7-01' ] : () ]);
                $requests++;
            }
        }
    }
    # CLIENT spans: of /one, /fails, /retry and /dead; in nginx a second one of /retry, and
    # of /sub one, and one below the INTERNAL span of its subrequest.
    my $expect = $requests + 3 * @hosts * ($kind eq 'nginx' ? 8 : 4);
    my %by;
    for my $format (sort keys %FORMAT) {
        my @spans = $c->{$format}->wait_spans($expect, 20);
        $by{$format}{ $_->{span_id} } = $_ for @spans;
        is @spans, $expect, "$kind: $format: $expect spans";
        is keys %{ $by{$format} }, $expect, 'no one twice';
        my %seen = map { join(' ', $_->{path}, header($_, 'Content-Type')) => 1 }
            $c->{$format}->requests;
        is_deeply [ keys %seen ], [ join ' ', @{ $FORMAT{$format} } ], 'path and content type';
        is header(($c->{$format}->requests)[0], 'Content-Encoding'),
            $kind eq 'httpd' ? 'gzip' : undef, 'compression';
    }
    my @reference = values %{ $by{'http/protobuf'} };
    is join("\n", EdgespanTest::Otlp::lint(\@reference)), '', 'the reference keeps the rules';
    ok scalar(grep { $_->{status}{code} eq 'ERROR' } @reference), 'there are errors';
    ok scalar(grep { "@{[ %{ $_->{attrs} } ]}" =~ /😀/ } @reference), 'and odd values';
    is scalar(grep { "@{[ values %{ $_->{attr_types} } ]}" =~ /\[\]/ } @reference),
        3 * @hosts, 'and arrays';
    ok $kind ne 'nginx' || scalar(grep { @{ $_->{events} } } @reference), 'and events';
    ok $kind ne 'nginx' || scalar(grep { $_->{kind} eq 'INTERNAL' } @reference),
        'and subrequests';
    for my $format (sort keys %IS) {
        subtest "$kind: $format says what http/protobuf says" => sub {
            for my $p (sort { $a->{start} <=> $b->{start} } @reference) {
                my $have = $by{$format}{ $p->{span_id} };
                ok $have, "$p->{kind} $p->{name}" or next;
                $IS{$format}->($have, $p);
            }
        };
    }
    if ($kind eq 'httpd') {
        my %names = map { $_->{resource}{'service.name'} => 1 } values %{ $by{jaeger} };
        is_deeply [ sort keys %names ], [qw(service-a service-b service-c)],
            'jaeger: every service by its name';
    }
    $server->finish;
}

# What is said of an answer that OTLP's JSON would give.
my %words = ('http/protobuf' => '', 'http/json' => ': malformed',
    map { $_ => ': {"message":"malformed"}' } qw(zipkin jaeger));

subtest 'answers' => sub {
    for my $format (sort keys %FORMAT) {
        my $c = EdgespanTest::Collector->new;
        my $n = EdgespanTest::Nginx->new(http => <<"END")->start;
otel_exporter { endpoint @{[ $c->base ]}/; protocol $format; interval 20ms; timeout 2s; }
otel_trace on;
server { listen 127.0.0.1:%%PORT%%; location / { return 200 "x"; } }
END
        http_get($n->port, '/');
        $c->wait_spans(1, 5);
        is +($c->requests)[0]{answered}, $format =~ m{^http} ? 200 : 202, "$format: answered";

        $c->mode('status:503');
        http_get($n->port, '/');
        $n->wait_log(qr/it failed and is tried again: HTTP 503/);
        $c->mode('ok');
        $n->wait_log(qr/works again/);
        is @{ $c->wait_spans(2, 5) }, 2, 'retried';

        # One line a minute: a server of its own for the next failure.
        $n->stop;
        unlike $n->error_log, qr/spans dropped/, 'nothing was lost';
        $n->start;
        $c->mode('raw:' . "HTTP/1.1 400 Bad\r\nContent-Length: 23\r\nConnection: close\r\n\r\n"
            . '{"message":"malformed"}');
        http_get($n->port, '/');
        $n->wait_log(qr/a batch was rejected: HTTP 400\Q$words{$format}\E/);
        $n->stop;
        like $n->error_log, qr/1 spans dropped: rejected by the collector/, 'counted';
        $n->finish;
    }
};

subtest 'a partial success in JSON' => sub {
    my $c = EdgespanTest::Collector->new(mode => 'partial:1');
    my $n = EdgespanTest::Nginx->new(http => <<"END")->start;
otel_exporter { endpoint @{[ $c->base ]}; protocol http/json; interval 20ms; }
otel_trace on;
server { listen 127.0.0.1:%%PORT%%; location / { return 200 "x"; } }
END
    http_get($n->port, '/');
    $n->wait_log(qr/a part of a batch was rejected: x/);
    $n->stop;
    like $n->error_log, qr/1 spans dropped: rejected by the collector/, 'counted';
    $n->finish;
};

done_testing;
