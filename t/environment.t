# OTEL_* variables given to the real servers: where spans go, how, whether there
# are any, and what is said about values that are wrong.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Upstream;

my ($T, $P) = ('12345678901234567890123456789012', 'fedcba9876543210');
my $PARENT = "00-$T-$P-01";
my %FAST = (OTEL_BSP_SCHEDULE_DELAY => 20);
my $u = EdgespanTest::Upstream->new;

# A traced server of either kind; $conf{kind} is what it says beside that.
sub server {
    my ($kind, $env, %conf) = @_;
    my %opt = (env => { %FAST, %$env }, vars => { UP => $u->address });
    my $more = $conf{$kind} // '';
    return EdgespanTest::Nginx->new(%opt, http => <<"CONF")->start if $kind eq 'nginx';
otel_trace on;
$more
server {
    listen 127.0.0.1:%%PORT1%%;
    location / { return 200 "id=\$otel_trace_id"; }
    location /all { otel_sample_rate 100%; return 200; }
    location /up { proxy_pass http://%%UP%%; }
}
CONF
    return EdgespanTest::Httpd->new(%opt, http => <<"CONF")->start;
OtelTrace On
$more
ProxyPass /up http://%%UP%%/up
<Location /all>
    OtelSampleRate 100%
</Location>
CONF
}

# nginx says what it says of its configuration in both places; httpd has no
# error log yet.
sub said {
    my ($s) = @_;
    return $s->kind eq 'nginx' ? $s->error_log : $s->error_log . $s->stderr_log;
}

# What the upstream got as traceparent.
sub passed {
    my ($s, @headers) = @_;
    my $before = $u->requests;
    http_get($s->port, '/up', headers => \@headers);
    my ($request) = ($u->requests)[$before];
    return join ' ', EdgespanTest::Upstream::header_values($request, 'traceparent');
}

sub finish {
    my ($s) = @_;
    $s->{name} = $s->kind . ': no alerts';
    return $s->finish;
}

for my $kind (qw(nginx httpd)) {

    subtest "$kind: an exporter of the environment alone" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, {
            OTEL_EXPORTER_OTLP_ENDPOINT => 'http://127.0.0.1:' . $c->port,
            OTEL_EXPORTER_OTLP_HEADERS => 'authorization=Bearer%20s3cret, x-b=c%2Cd',
            OTEL_EXPORTER_OTLP_COMPRESSION => 'gzip', OTEL_SERVICE_NAME => 'shop' });
        http_get($s->port, '/');
        my ($span) = $c->wait_spans(1);
        is $span->{resource}{'service.name'}, 'shop', 'OTEL_SERVICE_NAME';
        my ($request) = $c->requests;
        is $request->{path}, '/v1/traces', 'a base gets the path';
        is header($request, 'Content-Type'), 'application/x-protobuf', 'http/protobuf';
        is header($request, 'Content-Encoding'), 'gzip', 'compressed';
        is header($request, 'Authorization'), 'Bearer s3cret', 'a header';
        is header($request, 'X-B'), 'c,d', 'and another';
        like said($s), qr{OTEL_EXPORTER_OTLP_ENDPOINT: spans go to http://127\.0\.0\.1:\d+/v1/traces as http/protobuf},
            'it is said where spans go';
        unlike said($s), qr/s3cret|\[(?:\w+:)?warn\]/, 'no secret, no warning';
        $s->reload;
        http_get($s->port, '/');
        $c->wait_spans(2);
        is header(($c->requests)[-1], 'X-B'), 'c,d', 'the same after a reload';
        finish($s);
    };

    subtest "$kind: the signal's variables" => sub {
        my ($c, $other) = map { EdgespanTest::Collector->new } 1, 2;
        my $s = server($kind, {
            OTEL_EXPORTER_OTLP_ENDPOINT => 'http://127.0.0.1:' . $other->port,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT => 'http://127.0.0.1:' . $c->port,
            OTEL_EXPORTER_OTLP_PROTOCOL => 'http/protobuf',
            OTEL_EXPORTER_OTLP_TRACES_PROTOCOL => 'http/json' });
        http_get($s->port, '/');
        $c->wait_spans(1);
        my ($request) = $c->requests;
        is $request->{path}, '/', 'the URL as it is';
        is header($request, 'Content-Type'), 'application/json', 'http/json';
        is scalar(my @r = $other->requests), 0, 'the general one gets nothing';
        finish($s);
    };

    subtest "$kind: directives come first" => sub {
        my ($c, $other) = map { EdgespanTest::Collector->new } 1, 2;
        my $url = $c->url;
        my $s = server($kind, {
            OTEL_EXPORTER_OTLP_ENDPOINT => 'http://127.0.0.1:' . $other->port,
            OTEL_EXPORTER_OTLP_HEADERS => 'x-a=env', OTEL_TRACES_SAMPLER => 'parentbased_always_off',
            OTEL_EXPORTER_OTLP_COMPRESSION => 'gzip' },
            nginx => "otel_exporter { endpoint $url; header X-A block; } otel_sample_rate 1;",
            httpd => "OtelExporter $url header=X-A:block\nOtelSampleRate 1");
        http_get($s->port, '/');
        $c->wait_spans(1);
        my ($request) = $c->requests;
        is join(' ', header($request, 'X-A')), 'block', 'a header';
        is header($request, 'Content-Encoding'), 'gzip', 'each option on its own';
        is scalar(my @r = $other->requests), 0, "the environment's endpoint gets nothing";
        finish($s);
    };

    subtest "$kind: OTEL_TRACES_SAMPLER, whatever the caller says" => sub {
        for (['always_on', '00', '01'], ['always_off', '01', '00']) {
            my ($sampler, $from, $to) = @$_;
            my $c = EdgespanTest::Collector->new;
            my $s = server($kind, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT => $c->url,
                OTEL_TRACES_SAMPLER => $sampler });
            my $parent = $PARENT =~ s/..$/$from/r;
            like passed($s, [ traceparent => $parent ]), qr/^00-$T-[0-9a-f]{16}-$to$/, $sampler;
            finish($s);
            $c->stop;
        }
    };

    subtest "$kind: OTEL_TRACES_SAMPLER" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT => $c->url,
            OTEL_TRACES_SAMPLER => 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG => '0' });
        http_get($s->port, '/') for 1 .. 20;
        like passed($s), qr/^00-[0-9a-f]{32}-[0-9a-f]{16}-0[02]$/, 'a new trace is not sampled';
        like passed($s, [ traceparent => $PARENT ]), qr/^00-$T-[0-9a-f]{16}-01$/, "a caller's is";
        http_get($s->port, '/all');
        my @spans = $c->wait_spans(1, 10, kind => 'SERVER', attr => { 'url.path' => '/all' });
        is @spans, 1, 'a directive comes first';
        is_deeply [ sort map { $_->{attrs}{'url.path'} } $c->spans(kind => 'SERVER') ],
            [ '/all', '/up' ], 'nothing else was recorded';
        finish($s);
    };

    subtest "$kind: limits" => sub {
        my $c = EdgespanTest::Collector->new;
        my $s = server($kind, {
            OTEL_EXPORTER_OTLP_ENDPOINT => 'http://127.0.0.1:' . $c->port,
            OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT => 3, OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT => 2 });
        http_get($s->port, '/');
        my ($span) = $c->wait_spans(1);
        is keys %{ $span->{attrs} }, 3, 'three attributes';
        is $span->{attrs}{'http.request.method'}, 'GE', 'of two characters';
        cmp_ok $span->{dropped_attributes_count} // 0, '>', 3, 'the others are counted';
        finish($s);
    };

    subtest "$kind: OTEL_SDK_DISABLED" => sub {
        my $c = EdgespanTest::Collector->new;
        my $url = $c->url;
        my $s = server($kind, { OTEL_SDK_DISABLED => 'true' },
            nginx => "otel_exporter { endpoint $url; }", httpd => "OtelExporter $url");
        is passed($s, [ traceparent => $PARENT ]), $PARENT, 'a context passes as it came';
        is passed($s), '', 'and none is made';
        is http_get($s->port, '/')->{body}, 'id=', 'no ids' if $kind eq 'nginx';
        like said($s), qr/OTEL_SDK_DISABLED is true: there are no spans/, 'and it is said';
        finish($s);
        is scalar(my @r = $c->requests), 0, 'nothing was sent';
        $s = server($kind, { OTEL_SDK_DISABLED => 'true' },
            nginx => 'otel_trust_context off;', httpd => 'OtelTrustContext Off');
        is passed($s, [ traceparent => $PARENT ]), '', 'a stranger is no more believed than else';
        finish($s);
    };

    subtest "$kind: wrong values" => sub {
        my $c = EdgespanTest::Collector->new;
        my %bad = (OTEL_EXPORTER_OTLP_PROTOCOL => 'http', OTEL_EXPORTER_OTLP_TIMEOUT => '10s',
            OTEL_EXPORTER_OTLP_COMPRESSION => 'zstd', OTEL_EXPORTER_OTLP_ENDPOINT => 'nonsense://s3cret',
            OTEL_EXPORTER_OTLP_HEADERS => 's3cret', OTEL_EXPORTER_OTLP_CERTIFICATE => '/nonexistent',
            OTEL_BSP_EXPORT_TIMEOUT => '-1', OTEL_BSP_MAX_EXPORT_BATCH_SIZE => 'many',
            OTEL_TRACES_SAMPLER => 'jaeger_remote', OTEL_TRACES_EXPORTER => 'otlp,carrier-pigeon');
        my $s = server($kind, { %bad, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT => $c->url,
            OTEL_PROPAGATORS => 'b3,ottrace', OTEL_BSP_MAX_QUEUE_SIZE => 100 });
        http_get($s->port, '/');
        my ($span) = $c->wait_spans(1);
        ok $span, 'it traces all the same';
        my $log = said($s);
        # No variable is read whose better one is there: the endpoint's is.
        for my $name (grep { $_ ne 'OTEL_EXPORTER_OTLP_ENDPOINT' } sort keys %bad) {
            is scalar(() = $log =~ /warn\].*\b$name .*is ignored|warn\].*\b$name is ignored/g), 1, $name;
        }
        is scalar(() = $log =~ /notice\].*\bOTEL_BSP_MAX_QUEUE_SIZE /g), 1, 'a notice';
        is scalar(() = $log =~ /warn\].*\bOTEL_PROPAGATORS: .*"ottrace"/g), 1,
            'one propagator that there is not';
        unlike $log, qr/s3cret/, 'no secret';
        finish($s);
    };
}

done_testing;
