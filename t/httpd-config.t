# httpd: what a wrong configuration is told, and what a right one may say.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Httpd;

my $URL = 'http://127.0.0.1:4318/v1/traces';

sub check {
    my ($http, %opt) = @_;
    my $s = EdgespanTest::Httpd->new(%opt, http => $http, files => {
        (map { ("pem/$_->[0]", "-----BEGIN $_->[1]-----\nMIIB\n") }
            [ ca => 'CERTIFICATE' ], [ key => 'PRIVATE KEY' ]),
        'pem/token' => "t0ken\n", 'pem/hash' => 'k' x 32, 'pem/short' => 'k' x 15, 'pem/two' => "t0ken\nt0ken\n" });
    my ($ok, $text) = $s->test;
    return ($ok, $text, $s);
}

# $words is all of httpd's message behind the place.
sub refused {
    my ($http, $words, $name) = @_;
    my ($ok, $text, $s) = check("$http\n");
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $file = quotemeta($s->prefix . '/httpd.conf');
    my ($said) = $text =~ /Syntax error on line \d+ of $file:\n(.*)\n/;
    ok !$ok, ($name // $http) . ': refused';
    is $said, $words =~ s/%%PREFIX%%/$s->prefix/er, 'in the right words';
    return;
}

subtest 'accepted' => sub {
    for my $http (
        "OtelExporter $URL",
        "OtelExporter $URL protocol=http/protobuf interval=1s batch_size=10 queue_size=64m timeout=5s shutdown_timeout=500ms",
        qq{OtelExporter $URL "header=Authorization: Bearer x" header=X-A:b\nOtelExporter file:///tmp/spans.jsonl},
        "OtelExporter $URL endpoint=http://b:4318 endpoint=c:4318 compression=gzip",
        'OtelExporter https://example.com/x trusted_certificate=pem/ca client_certificate=%%PREFIX%%/pem/ca client_certificate_key=pem/key ssl_verify=on',
        "OtelExporter $URL header_file=X-Token:pem/token spool=data/spool spool_max=1g",
        'OtelExporter unix:/run/otel.sock protocol=http/protobuf',
        "OtelServiceName a\n<VirtualHost *>\nOtelServiceName b\n</VirtualHost>",
        'OtelResourceAttr deployment.environment.name test',
        (map {"OtelTrace $_"} 'on', 'OFF', 'expr=%{reqenv:X}', '"expr=%{HTTP:X} == \'a\'"'),
        (map {"OtelSampleRate $_"} qw(0 1 0.5 12.5% 100%), 'expr=%{reqenv:X}'),
        (map {"OtelTraceContext $_"} qw(propagate Extract inject ignore)),
        'OtelSpanName "%{REQUEST_METHOD} x"', 'OtelSpanAttr a "b %{HTTP_HOST}"',
        (map {"OtelSpanAttr a \"%{HTTP_HOST}\" $_"} qw(string int double bool)),
        "OtelHashKey %%PREFIX%%/pem/hash\nOtelSpanAttr user.id %{REMOTE_USER} hash",
        'OtelHashKey pem/hash',
        (map {"OtelSpanHeader $_"} 'request X-A', 'Response X-A Content-Type'),
        'OtelRoute /a', 'OtelRoute ""', 'OtelRoute "%{reqenv:ROUTE}"',
        (map {"OtelRedact $_"} 'query=a query=b', 'query=* header=*', 'query= header= client_address=off',
            "client_address=/24,/48\nOtelRedact query=a"),
        (map {"OtelSemconv $_"} qw(stable old both)),
        (map {"OtelTraceUrl $_"} '/trace/{trace_id}', 'https://example.com/?t={trace_id}&s={span_id}'),
        "<VirtualHost *>\nOtelTraceUrl /{trace_id}\nOtelRedact header=a\n</VirtualHost>",
        "<If \"true\">\nOtelRoute /a\nOtelSpanHeader request X-A\nOtelRedact query=a\n</If>",
        "OtelUpstreamSpan off\n<Location />\nOtelUpstreamSpan on\n</Location>",
        "<Directory />\nOtelTrace On\nOtelSampleRate 1%\nOtelTraceContext ignore\n</Directory>",
        "<If \"true\">\nOtelTrace On\n</If>",
        (map {"OtelPropagators $_"} 'none', 'B3', 'tracecontext baggage b3 b3multi jaeger xray'),
        "OtelBaggageAllow none\n<VirtualHost *>\nOtelBaggageAllow tenant user.id\n</VirtualHost>",
        'OtelBaggageAllow ' . join(' ', map {"k$_"} 1 .. 100),
        (map {"OtelTrustContext $_"} qw(On off LINK), 'expr=%{reqenv:X}', q{"expr=-R '10.0.0.0/8'"}),
        "<VirtualHost *>\nOtelTrustContext Off\nOtelPropagators xray\nOtelSampleLimit 5r/s\n</VirtualHost>",
        (map {"OtelSampler $_"} map { ($_, "parentbased_$_") } qw(always_on always_off traceidratio)),
        (map {"OtelSampleTarget $_"} '50r/s', '30r/m min=0.1% max=50%'),
        (map {"OtelSampleLimit $_"} '100r/s', '1r/m burst=10'),
        (map {"OtelSampleKeep $_"} 'off', 'error', 'error slow=1s status=429 status=5xx limit=20r/s'),
        (map {"OtelResponseHeader $_"} qw(off traceresponse Server-Timing)),
        "<Location />\nOtelSampler always_on\nOtelSampleKeep off\nOtelResponseHeader off\nOtelBaggageAttr a b\n</Location>",
        "<If \"true\">\nOtelSampleTarget 1r/s\nOtelSampleKeep error\nOtelBaggageAttr a\n</If>",
        'OtelOverride conf/none', 'OtelOverride %%PREFIX%%/none',
        "OtelSampler traceidratio\nOtelSampleRate 1%",
        "OtelSampler always_on\n<Location />\nOtelSampleRate 1%\n</Location>",
        "OtelSampleRate 1%\n<Location />\nOtelSampleTarget 5r/s\n</Location>",
        "OtelSampleRate 1%\nOtelSampleRate expr=%{reqenv:X}\nOtelSampleKeep error\nOtelSampleKeep off",
    ) {
        my ($ok, $text) = check("$http\n");
        ok $ok, $http or diag $text;
    }
};

subtest 'OtelExporter' => sub {
    my $known = 'there are endpoint, protocol, compression, trusted_certificate, '
        . 'client_certificate, client_certificate_key, ssl_verify, spool, spool_max, interval, '
        . 'timeout, shutdown_timeout, batch_size, queue_size, batch_count, header and header_file';
    refused('OtelExporter', 'OtelExporter takes a URL and any number of key=value');
    refused("OtelExporter $URL interval", 'OtelExporter: "interval" is not key=value');
    refused("OtelExporter $URL speed=5", qq{OtelExporter: unknown exporter option "speed": $known});
    refused("OtelExporter $URL interval=soon",
        'OtelExporter: invalid value "soon" of "interval": it takes a time from 1ms to 1h');
    refused("OtelExporter $URL batch_size=0",
        'OtelExporter: invalid value "0" of "batch_size": it takes a number of spans from 1 to 65536');
    refused("OtelExporter $URL header=secret",
        'OtelExporter: "header" takes Name:value', 'a header without a name');
    refused(qq{OtelExporter $URL "header=a b:secret"},
        'OtelExporter: invalid header "a...": it takes a header name and a value without control characters');
    refused("OtelExporter $URL header=X-Key=secret:x",
        'OtelExporter: invalid header "X-Key...": it takes a header name and a value without control characters');
    refused("OtelExporter $URL header_file=X=secret:x",
        'OtelExporter: invalid header "X...": it takes a header name and a value without control characters');
    for my $rest ('secret', 'c2VjcmV0==') {
        refused("OtelExporter $URL header=Authorization:Bearer $rest",
            'OtelExporter: a header with blanks takes quotes: "header=Name:a value"');
    }
    refused("OtelExporter $URL compression=zip",
        'OtelExporter: invalid value "zip" of "compression": it takes "off" or "gzip"');
    refused("OtelExporter https://h/x client_certificate=pem/ca",
        'OtelExporter: "client_certificate" and "client_certificate_key" go together: one is missing');
    refused("OtelExporter https://h/x trusted_certificate=pem/key",
        'OtelExporter: "trusted_certificate": %%PREFIX%%/pem/key holds no certificate in PEM form ("-----BEGIN CERTIFICATE-----")');
    refused("OtelExporter $URL header_file=X",
        'OtelExporter: "header_file" takes Name:path');
    refused("OtelExporter $URL header_file=X:pem/none",
        'OtelExporter: header_file "X": %%PREFIX%%/pem/none cannot be read: No such file or directory');
    refused("OtelExporter $URL header_file=X:pem/two",
        'OtelExporter: header_file "X": %%PREFIX%%/pem/two is to hold one line, the header\'s value, without control characters');
    refused("OtelExporter $URL spool=a spool_max=1k",
        'OtelExporter: invalid value "1k" of "spool_max": it takes a size from 1m to 1t');
    refused("OtelExporter $URL spool=a\nOtelExporter $URL spool=a",
        'OtelExporter: two exporters with the "spool" %%PREFIX%%/a: each takes its own');
    refused("<VirtualHost *>\nOtelExporter $URL\n</VirtualHost>",
        'OtelExporter cannot occur within <VirtualHost> section', 'in a virtual host');
    my $many = join "\n", ("OtelExporter $URL") x 5;
    refused($many, 'OtelExporter: more than 4 exporters', 'five exporters');
    my ($ok, $text) = check("OtelExporter http://:4318/x\n");
    ok !$ok, 'no URL: refused';
    like $text, qr{^OtelExporter: endpoint "http://:4318/x" has no valid host and port: give http://}m, 'and named';
};

subtest 'the resource' => sub {
    refused("OtelServiceName \xff", 'OtelServiceName: a service name has 1 to 255 characters of valid UTF-8',
        'invalid UTF-8');
    refused("<Location />\nOtelServiceName x\n</Location>", 'OtelServiceName not allowed in <Location> context',
        'in <Location>');
    refused("OtelResourceAttr a \xff",
        'OtelResourceAttr: a resource attribute takes a name and a value of valid UTF-8', 'invalid UTF-8');
    refused("<VirtualHost *>\nOtelResourceAttr a b\n</VirtualHost>",
        'OtelResourceAttr cannot occur within <VirtualHost> section', 'in a virtual host');
};

subtest 'places' => sub {
    refused('OtelTrace maybe',
        'OtelTrace: invalid value "maybe": it is "On", "Off" or "expr=" with an expression');
    my ($ok, $text) = check(qq{OtelTrace "expr=%{HTTP:X} == "\n});
    ok !$ok, 'a broken condition: refused';
    like $text, qr/^OtelTrace: invalid expression "%\{HTTP:X\} == ": syntax error/m, 'and explained';
    ($ok, $text) = check(qq{OtelSpanName "%{nonsense:x}"\n});
    ok !$ok, 'an unknown function: refused';
    like $text, qr/^OtelSpanName: invalid expression "%\{nonsense:x\}": /m, 'and explained';
    refused('OtelSampleRate 101%', 'OtelSampleRate: invalid sample rate "101%": it is a number '
        . 'from 0 to 1, or a percentage from 0% to 100%');
    refused('OtelTraceContext some', 'OtelTraceContext: invalid trace context mode "some": it is '
        . '"propagate", "extract", "inject" or "ignore"');
    refused('OtelUpstreamSpan maybe', 'OtelUpstreamSpan must be On or Off');
    refused("<Location />\n<Limit GET>\nOtelTrace On\n</Limit>\n</Location>",
        'OtelTrace cannot occur within <Limit> or <LimitExcept> section', 'in <Limit>');
};

subtest 'context' => sub {
    my $known = 'there are "tracecontext", "baggage", "b3", "b3multi", "jaeger", "xray", "none"';
    refused('OtelPropagators zipkin', qq{OtelPropagators: unknown propagator "zipkin": $known});
    refused('OtelPropagators b3,jaeger', qq{OtelPropagators: unknown propagator "b3,jaeger": $known});
    refused('OtelPropagators none b3',
        'OtelPropagators: "none" stands alone, without other names');
    refused('OtelPropagators', 'OtelPropagators takes at least one argument: formats of context '
        . 'headers, in order: tracecontext, baggage, b3, b3multi, jaeger, xray; or none', 'no propagator');
    my $key = "it takes letters, digits and !#\$%&'*+-.^_`|~";
    for my $name (qw(OtelBaggageAllow OtelBaggageAttr)) {
        refused(qq{$name good "a b"}, qq{$name: "a b" is no key of baggage: $key});
        refused(qq{$name ""}, qq{$name: "" is no key of baggage: $key});
    }
    refused('OtelBaggageAllow a none', 'OtelBaggageAllow: "none" stands alone, without other names');
    refused('OtelBaggageAllow ' . join(' ', map {"k$_"} 1 .. 100) . ' a=b',
        qq{OtelBaggageAllow: "a=b" is no key of baggage: $key}, 'the 101st key');
    refused('OtelBaggageAttr', 'OtelBaggageAttr takes at least one argument: keys of the '
        . "caller's baggage that become span attributes", 'no key');
    refused("OtelTrustContext $_", qq{OtelTrustContext: invalid value "$_": it is "On", "Off", "Link" }
        . 'or "expr=" with an expression') for 'yes', '%{reqenv:X}';
    my ($ok, $text) = check(qq{OtelTrustContext "expr=-R"\n});
    ok !$ok, 'a broken condition: refused';
    like $text, qr/^OtelTrustContext: invalid expression "-R": syntax error/m, 'and explained';
    refused('OtelResponseHeader on',
        'OtelResponseHeader: "on" is not "off", "traceresponse" or "server-timing"');
    for my $line ('OtelPropagators b3', 'OtelBaggageAllow a', 'OtelTrustContext Off',
        'OtelSampleLimit 5r/s', 'OtelOverride x') {
        my ($name) = split / /, $line;
        refused("<Location />\n$line\n</Location>", "$name not allowed in <Location> context", "$name in <Location>");
        refused("<If \"true\">\n$line\n</If>", "$name not allowed in <If> context", "$name in <If>");
    }
    refused("<VirtualHost *>\nOtelOverride x\n</VirtualHost>",
        'OtelOverride cannot occur within <VirtualHost> section', 'OtelOverride in a virtual host');
};

subtest 'attributes, headers, what is hidden' => sub {
    refused('OtelSpanAttr a b date', 'OtelSpanAttr: invalid attribute type "date": it is "string", '
        . '"int", "double", "bool" or "hash"');
    refused('OtelSpanAttr a', 'OtelSpanAttr takes two or three arguments, the name and the value of '
        . 'a span attribute, with %{variables}, then its type: string (the default), int, double, bool or hash');
    refused($_, 'OtelRoute takes one argument, the route instead of the path of <Location>, '
        . 'with %{variables}') for 'OtelRoute', 'OtelRoute /a b';
    refused('OtelSpanHeader both X-A', 'OtelSpanHeader: "both" is not "request" or "response"');
    refused('OtelSpanHeader request', 'OtelSpanHeader takes at least one argument: request or '
        . 'response, then names of headers that become span attributes');
    refused('OtelSpanHeader request "X A"', 'OtelSpanHeader: invalid header "X A": it takes the name of a header');
    refused('OtelRedact all', 'OtelRedact: unknown word "all": there are "query=key", "header=name" and '
        . '"client_address=/24,/48"');
    refused('OtelRedact client_address=/33,/48', 'OtelRedact: invalid "client_address=/33,/48": it takes '
        . 'the bits that are kept of an IPv4 and of an IPv6 address, as in "client_address=/24,/48", or "off"');
    refused('OtelRedact', 'OtelRedact takes at least one argument: what is hidden: any of query=key, '
        . 'header=name and client_address=/24,/48', 'nothing to hide');
    refused('OtelSemconv new', 'OtelSemconv: "new" is not "stable", "old" or "both"');
    refused('OtelTraceUrl https://example.com/', 'OtelTraceUrl: invalid trace URL "https://example.com/": '
        . '"{trace_id}" is to be in it');
    refused('OtelHashKey pem/none', 'OtelHashKey: %%PREFIX%%/pem/none cannot be read: No such file or directory');
    refused('OtelHashKey pem/short', 'OtelHashKey: %%PREFIX%%/pem/short holds a key of 15 bytes: it takes '
        . '16 to 1024, as "openssl rand -hex 32" writes them');
    my ($ok, $text) = check("OtelSpanAttr a b hash\nOtelTrace On\n");
    ok !$ok, 'a hash without a key: refused by -t';
    like $text, qr/edgespan: an attribute of type "hash" without .*OtelHashKey/, 'and explained';
    for my $line ('OtelHashKey pem/hash', 'OtelSemconv old', 'OtelTraceUrl /{trace_id}') {
        my ($name) = split / /, $line;
        refused("<Location />\n$line\n</Location>", "$name not allowed in <Location> context", "$name in <Location>");
    }
    for my $line ('OtelHashKey pem/hash', 'OtelSemconv old') {
        my ($name) = split / /, $line;
        refused("<VirtualHost *>\n$line\n</VirtualHost>",
            "$name cannot occur within <VirtualHost> section", "$name in a virtual host");
    }
};

subtest 'sampling' => sub {
    my $rate = 'it is "<number>r/s" or "<number>r/m", from 1r/m to 1000000r/s';
    refused('OtelSampler sometimes', 'OtelSampler: invalid sampler "sometimes": it is "always_on", '
        . '"always_off", "traceidratio", or one of them with "parentbased_" before it');
    my ($ok, $text) = check("OtelSampler jaeger_remote\n");
    ok !$ok, 'jaeger_remote: refused';
    like $text, qr/^OtelSampler: sampler "jaeger_remote" is not supported: \w/m, 'and explained';
    refused("OtelSampleTarget $_", qq{OtelSampleTarget: invalid rate "$_": $rate}) for qw(50 0r/s min=1%);
    refused('OtelSampleTarget 5r/s burst=1',
        'OtelSampleTarget: invalid parameter "burst=1": it is "min=" or "max="');
    refused('OtelSampleTarget 5r/s min=2% max=1%',
        'OtelSampleTarget: its min is more than its max: no probability is between them');
    refused('OtelSampleTarget', 'OtelSampleTarget takes at least one argument: a rate that follows '
        . 'the load: 50r/s, then any of min=1% and max=100%', 'no target');
    refused('OtelSampleLimit 5', qq{OtelSampleLimit: invalid rate "5": $rate});
    refused('OtelSampleLimit 5r/s burst=0',
        'OtelSampleLimit: invalid parameter "burst=0": it is "burst=" and 1 to 1000000');
    refused('OtelSampleKeep slow=soon',
        'OtelSampleKeep: invalid time "soon": it is like "500ms" or "1s"');
    refused('OtelSampleKeep status=999',
        'OtelSampleKeep: invalid status "999": it is like "429" or "5xx"');
    refused('OtelSampleKeep error off', 'OtelSampleKeep: invalid parameter "off": it is "error", '
        . '"slow=", "status=" or "limit=", or "off" alone');
    refused('OtelSampleKeep limit=5r/s', 'OtelSampleKeep: nothing to keep: it takes "error", "slow=" '
        . 'or "status=", or "off"');
    refused('OtelSampleKeep error limit=x', qq{OtelSampleKeep: invalid rate "x": $rate});
    refused("OtelSampleRate 1%\nOtelSampleTarget 5r/s",
        'OtelSampleTarget: a rate and a target exclude each other: one of them is to go');
    refused("OtelSampleRate expr=%{reqenv:X}\nOtelSampler parentbased_always_off",
        'OtelSampler: sampler "parentbased_always_off" and a rate exclude each other: '
        . '"parentbased_traceidratio" is the sampler that has one');
    refused("OtelSampler always_on\nOtelSampleTarget 5r/s",
        'OtelSampleTarget: sampler "always_on" and a target exclude each other: '
        . '"traceidratio" is the sampler that has one');
    refused("OtelOverride a\nOtelOverride b", 'OtelOverride: is given already');
};

subtest 'what only the whole shows' => sub {
    my ($ok, $text) = check("OtelExporter $URL queue_size=1m\nOtelTrace On\n", workers => 20);
    ok !$ok, 'a queue too small for ServerLimit: refused by -t';
    like $text, qr/edgespan: queue_size 1024k is too small for 26 serving processes: it takes \d+k or more/,
        'and explained';
    ($ok, $text) = check("OtelExporter $URL queue_size=1m\n", workers => 20);
    ok $ok, 'but not where nothing is traced';
};

done_testing;
