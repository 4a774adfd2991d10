# The directives: what they take, what they refuse and in which words, and how
# the contexts inherit. What nginx says of them besides: nginx-config-said.t; what they
# do to spans: nginx-config-run.t.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::NginxConfig;

my $n = tester();

my $GIVE = qr{: give http://host:4318/v1/traces \(protocol http/protobuf\), host:4317 \(grpc\), unix:/path or file:///path};

subtest 'otel_exporter: accepted' => sub {
    accepted("otel_exporter { $_ }") for "$OK interval 50ms;", "$OK interval 1ms;",
        "$OK interval 1m; timeout 500ms; shutdown_timeout 0; batch_size 1;",
        "$OK queue_size 1m;", "$OK queue_size 1g; batch_size 65536;",
        "$OK header X-Key 'a b'; header x-other ''; header X-Key c;",
        "$OK batch_count 4;", "$OK protocol http/protobuf;",
        'endpoint file:///tmp/x; protocol file;',
        'endpoint https://example.com/otlp;', 'endpoint http://[::1]:4318;',
        'endpoint http://127.0.0.1:4317; protocol http/protobuf;',
        'endpoint http://a:4318; endpoint b:4318; endpoint http://c/d; endpoint e:4318;',
        'endpoint unix:/run/otel.sock; protocol http/protobuf;',
        'endpoint unix:/run/otel.sock:/a/b; protocol http/json;',
        'endpoint stdout;', 'endpoint stderr; protocol file;',
        (map {"$OK compression $_;"} qw(off gzip none GZIP)),
        "$TLS trusted_certificate ca.pem;",
        "$TLS client_certificate ca.pem; client_certificate_key key.pem;",
        "$TLS ssl_verify on;", "$OK header_file Authorization token;",
        "$OK header_file a token; header_file b %%PREFIX%%/token;",
        "$OK spool spool;", "$OK spool %%PREFIX%%/data/spool max=1g;";
    accepted("otel_exporter { $OK } " x 4, 'four of them');
};

subtest 'otel_exporter: refused' => sub {
    my $time = sub { qr/^invalid value "\Q$_[1]\E" of "$_[0]": it takes a time from \Q$_[2]\E/ };
    my $many = qr/^invalid number of parameters of "(?:endpoint|interval)": it takes 1/;
    for my $case (
        [ '', qr{^the exporter has no "endpoint": give one, as http://127\.0\.0\.1:4318/v1/traces or file:///var/log/spans\.jsonl} ],
        [ 'interval 1s;', qr/^the exporter has no "endpoint"/ ],
        [ 'endpoint;', $many ], [ 'endpoint a b;', $many ],
        [ "$OK interval;", $many ],
        [ "$OK interval x;", $time->('interval', 'x', '1ms to 1h') ],
        [ "$OK interval 0ms;", $time->('interval', '0ms', '1ms to 1h') ],
        [ "$OK interval 2h;", $time->('interval', '2h', '1ms to 1h') ],
        [ "$OK interval 1.5s;", $time->('interval', '1.5s', '1ms to 1h') ],
        [ "$OK timeout 0;", $time->('timeout', '0', '10ms to 10m') ],
        [ "$OK shutdown_timeout 2m;",
            $time->('shutdown_timeout', '2m', '0 to 60s') ],
        (map { [ "$OK batch_size $_;", qr/^invalid value "$_" of "batch_size": it takes a number of spans from 1 to 65536/ ] }
            0, -1, 65537, '5s', '99999999999999999999'),
        (map { [ "$OK queue_size $_;", qr/^invalid value "$_" of "queue_size": it takes a size from 1m to 64g/ ] }
            '1k', '1x', '65g', '99999999999999999999g'),
        (map { [ "$OK header $_;", qr/^invalid number of parameters of "header": it takes 2/ ] } 'X', 'X y z'),
        (map { [ "$OK header $_->[0] z;", qr/^invalid header "\Q$_->[1]\E": it takes a header name and a value without control characters/ ] }
            [ '"X Y"', 'X...' ], [ '"X: t0ken"', 'X...' ], [ '""', '' ]),
        [ "$OK nonsense 1;", qr/^unknown exporter option "nonsense": there are endpoint, protocol, compression, trusted_certificate, client_certificate, client_certificate_key, ssl_verify, spool, spool_max, interval, timeout, shutdown_timeout, batch_size, queue_size, batch_count, header and header_file/ ],
        [ "$OK compression zip;", qr/^invalid value "zip" of "compression": it takes "off" or "gzip"/ ],
        [ "$OK ssl_verify maybe;", qr/^invalid value "maybe" of "ssl_verify": it takes "on" or "off"/ ],
        [ 'endpoint file:///x; compression gzip;', qr/^"compression gzip" is not possible with protocol file/ ],
        [ 'endpoint file:///x; spool a;', qr/^"spool" is not possible with protocol file/ ],
        [ "endpoint file:///x; trusted_certificate ca.pem;", qr/^"trusted_certificate" is not possible with protocol file/ ],
        [ "$TLS trusted_certificate no.pem;", qr{^"trusted_certificate": /\S+/no\.pem cannot be read: No such file} ],
        [ "$TLS trusted_certificate key.pem;", qr{^"trusted_certificate": /\S+/key\.pem holds no certificate in PEM form \("-----BEGIN CERTIFICATE-----"\)} ],
        [ "$TLS client_certificate_key ca.pem;", qr{^"client_certificate_key": /\S+/ca\.pem holds no private key in PEM form} ],
        (map { [ "$TLS $_;", qr/^"client_certificate" and "client_certificate_key" go together: one is missing/ ] }
            'client_certificate ca.pem', 'client_certificate_key key.pem'),
        (map { [ "$OK header_file $_;", qr/^invalid number of parameters of "header_file": it takes 2/ ] } 'X', 'X y z'),
        [ "$OK header_file X no;", qr{^header_file "X": /\S+/no cannot be read: No such file} ],
        [ "$OK header_file X two;", qr{^header_file "X": /\S+/two is to hold one line, the header's value, without control characters} ],
        [ "$OK spool a b c;", qr/^invalid number of parameters of "spool": it takes 1 or 2/ ],
        [ "$OK spool a b;", qr/^invalid parameter "b" of "spool": it takes a directory and "max=" with a size/ ],
        (map { [ "$OK spool a max=$_;", qr/^invalid value "$_" of "spool_max": it takes a size from 1m to 1t/ ] } '1k', '2t', 'x'),
        [ "$OK " x 5, qr/^more than 4 endpoints in one exporter/ ],
        [ 'endpoint a:4318; endpoint file:///x;', qr{^endpoint "file:///x" means protocol file, and the one before it http/protobuf: the endpoints of one exporter speak the same$GIVE} ],
        [ "$OK Interval 1s;", qr/^unknown exporter option "Interval"/ ],
        [ "$OK inner { x 1; }", qr/^unexpected "\{"/ ],
        [ "$OK protocol nonsense;", qr{^unknown protocol "nonsense": there are http/protobuf, (?:[\w/]+, )*file} ],
        [ "$OK protocol file;", qr/^endpoint "\S+" is no file$GIVE/ ],
        [ 'endpoint file:///x; protocol http/protobuf;', qr/^endpoint "file:\S+" is a file and no URL to post to$GIVE/ ],
        (map { [ "endpoint $_;", qr/^endpoint "\Q$_\E" has no valid host and port$GIVE/ ] }
            qw(/tmp/x http://:4318/x http://h:99999/x http://h:0/x http://h:x/x)),
        [ 'endpoint "http://a b/c";', qr/has no valid host and port/ ],
        [ 'endpoint unix:otel.sock; protocol http/protobuf;', qr{^endpoint "unix:otel\.sock" has no absolute path of a socket$GIVE} ],
        [ "$OK batch_size 1; batch_size 2;", qr/^"batch_size" is given twice in one exporter/ ],
        [ 'endpoint ftp://x/y;', qr{^endpoint "ftp://x/y" has no scheme of ours$GIVE} ],
        [ 'endpoint file://relative/x;', qr{^endpoint "file://relative/x" is no file$GIVE} ],
        [ 'endpoint "";', qr/^empty "endpoint": it takes a URL/ ],
        [ 'endpoint $url;', qr/^endpoint "\$url" / ],
    ) {
        refused("otel_exporter { $case->[0] }", $case->[1], $case->[0]);
    }
    refused("otel_exporter { $OK spool a; }\notel_exporter { $OK spool a; }",
        qr/^two exporters with the "spool" \S+: each takes its own/);
    refused("otel_exporter { $OK }\n" x 5, qr/^more than 4 exporters/, 'five');
    refused("server {\notel_exporter { $OK }", qr/^"otel_exporter" directive is not allowed here/);
    refused("otel_exporter name { $OK }", qr/^invalid number of arguments in "otel_exporter" directive/);
};

subtest 'otel_service_name, otel_resource_attr' => sub {
    accepted('otel_service_name "my edge"; otel_resource_attr a b; '
        . 'otel_resource_attr a c; otel_resource_attr empty "";');
    my $name = qr/^a service name has 1 to 255 characters of valid UTF-8/;
    refused("otel_service_name $_;", $name) for '""', "\xff", 'x' x 256;
    refused("otel_service_name a;\notel_service_name b;",
        qr/^"otel_service_name" directive is duplicate/);
    refused('otel_service_name a b;', qr/^invalid number of arguments/);
    refused("otel_resource_attr $_;",
        qr/^a resource attribute takes a name and a value of valid UTF-8/)
        for '"" x', "a \xff", "\xff a";
    refused('otel_resource_attr a;', qr/^invalid number of arguments/);
    refused("server {\n$_", qr/^"otel_\w+" directive is not allowed here/)
        for 'otel_service_name x;', 'otel_resource_attr a b;';
};

# [directive, accepted values, [refused value, words]...]
my $enum = qr/: it is "propagate", "extract", "inject" or "ignore"/;
my $rate = qr/: it is a number from 0 to 1, or a percentage from 0% to 100%/;
my @location = (
    [ 'otel_trace', [qw(on off ON Off 1 0 $arg_x prefix$arg_x)],
        map { [ $_, qr/^invalid value $_ in "otel_trace" directive, it must be "on", "off" or a variable/ ] }
            '"maybe"', '"2"', '""' ],
    [ 'otel_sample_rate', [qw(0 1 0.5 .5 1. 100% 0% 12.5% 0.000001% $arg_x $arg_x%)],
        map { [ $_, qr/^invalid sample rate $_$rate/ ] } map {qq{"$_"}}
            qw(2 1.01 101% -1 abc 10 1e-3 0x1 inf nan % .), '', '1 %', '0,5' ],
    [ 'otel_trace_context', [qw(propagate extract inject ignore Propagate)],
        map { [ $_, qr/^invalid trace context mode \Q$_\E$enum/ ] }
            '"foo"', '""', '"$arg_x"', '"propagate,inject"' ],
    [ 'otel_span_name', [qw(a $arg_x "a$uri")] ],
    [ 'otel_route', ['/a/:id', '$arg_x', '"/a/{id}"', '""'] ],
    (map { [ $_, [qw(on off)],
            [ 'maybe', qr/^invalid value "maybe" in "$_" directive, it must be "on" or "off"/ ] ] }
        qw(otel_error_events otel_subrequest_span)),
    [ 'otel_sampler', [qw(always_on always_off traceidratio parentbased_always_on
            parentbased_always_off parentbased_traceidratio Always_On)],
        (map { [ qq{"$_"}, qr/^invalid sampler "\Q$_\E": it is "always_on", "always_off", "traceidratio", or one of them with "parentbased_" before it/ ] }
            'ratio', '', '$arg_x', 'parentbased'),
        (map { [ $_, qr/^sampler "$_" is not supported: it asks a Jaeger collector: a rate, a target and an override file say it here/ ] }
            'jaeger_remote', 'parentbased_jaeger_remote'),
        [ 'xray', qr/^sampler "xray" is not supported: it asks AWS X-Ray: a rate/ ] ],
    [ 'otel_upstream_span', [qw(on off)],
        [ 'maybe', qr/^invalid value "maybe" in "otel_upstream_span" directive, it must be "on" or "off"/ ] ],
);

for my $d (@location) {
    my ($name, $values, @bad) = @$d;
    subtest $name => sub {
        accepted("otel_exporter { $OK } $name $_;") for @$values;
        my $value = $values->[0];
        accepted("otel_exporter { $OK } $name $value; server { $name $value; "
            . "location / { $name $value; if (\$arg_y) { $name $value; } "
            . "location /b { $name $value; } } location \@c { $name $value; } }",
            'in all contexts');
        refused("$name $_->[0];", $_->[1]) for @bad;
        refused("server {\n$name $value;\n$name $value;",
            qr/^"$name" directive is duplicate/, 'twice');
        refused("$name;", qr/^invalid number of arguments in "$name" directive/);
        refused("$name a b;", qr/^invalid number of arguments in "$name" directive/);
        refused("server {\nif (\$arg_y) {\n$name $value;",
            qr/^"$name" directive is not allowed here/, '"if" in server{}');
    };
}

# Directives that take several words: as those of a location, above.
my $r_s = qr{: it is "<number>r/s" or "<number>r/m", from 1r/m to 1000000r/s};
my @rates = map { [ $_, qr/^invalid rate "\Q$_\E"$r_s/ ] } qw(50 50r/h r/s 0r/s -1r/s 1000001r/s 50/s);
my @words = (
    [ 'otel_sample_target', [ '50r/s', '1r/m', '50r/s min=1%', '50r/s max=0.5 min=0.1', '1000000r/s' ],
        @rates, [ '$arg_x', qr/^invalid rate "\$arg_x"/ ],
        [ '50r/s 10%', qr/^invalid parameter "10%": it is "min=" or "max="/ ],
        [ '50r/s min=2', qr/^invalid sample rate "2"$rate/ ],
        [ '50r/s min=50% max=10%', qr/^its min is more than its max: no probability is between them/ ] ],
    [ 'otel_sample_limit', [ '100r/s', '6r/m', '100r/s burst=1', '1r/s burst=1000000' ],
        @rates,
        map { [ "100r/s $_", qr/^invalid parameter "\Q$_\E": it is "burst=" and 1 to 1000000/ ] }
            qw(burst=0 burst=x burst= burst=1000001 5 max=1) ],
    [ 'otel_sample_keep', [ 'off', 'error', 'slow=1s', 'slow=250ms', 'status=429',
            'status=5xx status=404', 'error slow=1s status=429 limit=20r/s', 'limit=1r/m error' ],
        [ 'limit=20r/s', qr/^nothing to keep: it takes "error", "slow=" or "status=", or "off"/ ],
        [ 'error limit=20', qr/^invalid rate "20"$r_s/ ],
        (map { [ "slow=$_", qr/^invalid time "\Q$_\E": it is like "500ms" or "1s"/ ] } '0', '', 'x', '-1s'),
        (map { [ "status=$_", qr/^invalid status "\Q$_\E": it is like "429" or "5xx"/ ] } qw(42 4290 x 6xx 099 4x4)),
        map { [ $_->[0], qr/^invalid parameter "$_->[1]": it is "error", "slow=", "status=" or "limit=", or "off" alone/ ] }
            [ 'errors', 'errors' ], [ 'off error', 'off' ], [ 'error off', 'off' ], [ '""', '' ] ],
);

for my $d (@words) {
    my ($name, $values, @bad) = @$d;
    subtest $name => sub {
        accepted("otel_exporter { $OK } otel_trace on; $name $_;") for @$values;
        my $value = $values->[0];
        my $limit = $name eq 'otel_sample_limit';
        my $inner = $limit ? '' : "$name $value;";
        accepted("otel_exporter { $OK } otel_trace on; $name $value; server { $name $value; "
            . "location / { $inner if (\$arg_y) { $inner } location /b { $inner } } "
            . "location \@c { $inner } }", 'in all contexts');
        refused("$name $_->[0];", $_->[1]) for @bad;
        refused("server {\n$name $value;\n$name $value;",
            qr/^"$name" directive is duplicate/, 'twice');
        refused("$name;", qr/^invalid number of arguments in "$name" directive/);
        refused("server {\nlocation / {\n$name $value;",
            qr/^"$name" directive is not allowed here/, 'a location') if $limit;
    };
}

subtest 'what excludes itself on one level' => sub {
    my $both = qr/^a rate and a target exclude each other: one of them is to go/;
    refused("otel_sample_rate 1%;\notel_sample_target 5r/s;", $both);
    refused("otel_sample_target 5r/s;\notel_sample_rate 1%;", $both);
    refused("otel_sample_target 5r/s;\notel_sample_rate \$arg_x;", $both);
    for my $family ('', 'parentbased_') {
        for my $sampler ("${family}always_on", "${family}always_off") {
            for my $case ([ 'otel_sample_rate 1%;', 'rate' ], [ 'otel_sample_rate $arg_x;', 'rate' ],
                [ 'otel_sample_target 5r/s;', 'target' ]) {
                my $words = qr/^sampler "$sampler" and a $case->[1] exclude each other: "${family}traceidratio" is the sampler that has one/;
                refused("server {\notel_sampler $sampler;\n$case->[0]", $words);
                refused("server {\n$case->[0]\notel_sampler $sampler;", $words);
            }
        }
        accepted("otel_exporter { $OK } otel_trace on; otel_sampler ${family}traceidratio; "
            . "$_ server { otel_sampler ${family}always_on; location / { $_ } }")
            for 'otel_sample_rate 1%;', 'otel_sample_target 5r/s;';
    }
    accepted("otel_exporter { $OK } otel_trace on; otel_sample_rate 1%; "
        . 'server { otel_sample_target 5r/s; location / { otel_sample_rate $arg_x; } }',
        'on several levels nothing does');
};

subtest 'otel_override' => sub {
    accepted("otel_exporter { $OK } otel_trace on; otel_override $_;", $_)
        for 'no/such/file', '%%PREFIX%%/override';
    refused("otel_override a;\notel_override b;", qr/^"otel_override" directive is duplicate/);
    refused("server {\notel_override a;", qr/^"otel_override" directive is not allowed here/);
    refused('otel_override;', qr/^invalid number of arguments in "otel_override" directive/);
    refused('otel_override "";', qr/^invalid path "": it names the override file/, 'empty');
};

# Directives of a server: [name, accepted values, [refused value, words]...]
my $propagators = qr/: there are "tracecontext", "baggage", "b3", "b3multi", "jaeger", "xray", "none"/;
my $key = qr/ is no key of baggage: it takes letters, digits and !#\$%&'\*\+-\.\^_`\|~/;
my $alone = qr/^"none" stands alone, without other names/;
my @server = (
    [ 'otel_propagators', [ 'tracecontext', 'B3', 'none', 'xray b3 b3multi jaeger baggage',
        'b3 b3', 'b3 ' x 20 ],
        [ 'zipkin', qr/^unknown propagator "zipkin"$propagators/ ],
        [ 'b3 ""', qr/^unknown propagator ""$propagators/ ],
        [ 'b3,jaeger', qr/^unknown propagator "b3,jaeger"$propagators/ ],
        [ 'none b3', $alone ], [ 'b3 None', $alone ] ],
    [ 'otel_trust_context', [qw(on off link OFF $arg_x $arg_x$arg_y)],
        map { [ qq{"$_"}, qr/^"$_" is not "on", "off" or "link"/ ] } 'maybe', '', '1' ],
    [ 'otel_baggage_allow', [ 'a', 'user.id tenant', 'none', join ' ', map {"k$_"} 1 .. 99 ],
        [ 'a none', $alone ],
        map { [ qq{'$_'}, qr/^"\Q$_\E"$key/ ] } 'a b', '', 'a=b', "\xc3\xa9" ],
);
# And those of a location that are no rule of "if".
my @place = (
    [ 'otel_baggage_attr', [ 'a', 'user.id tenant', 'none' ],
        map { [ qq{"$_"}, qr/^"\Q$_\E"$key/ ] } 'a b', '', 'a=b' ],
    [ 'otel_response_header', [qw(off traceresponse server-timing Server-Timing)],
        map { [ qq{"$_"}, qr/^"\Q$_\E" is not "off", "traceresponse" or "server-timing"/ ] }
            'on', '', '\$arg_x' ],
);

for my $d ((map { [ @$_, 0 ] } @server), (map { [ @$_, 1 ] } @place)) {
    my ($name, $values, @bad) = @$d;
    my $in_location = pop @bad;
    subtest $name => sub {
        accepted("otel_exporter { $OK } otel_trace on; $name $_;") for @$values;
        my $value = $values->[0];
        my $inner = $in_location ? "$name $value;" : '';
        accepted("otel_exporter { $OK } otel_trace on; $name $value; server { $name $value; "
            . "location / { $inner } location \@c { $inner } }", 'in all contexts');
        refused("$name $_->[0];", $_->[1]) for @bad;
        refused("server {\n$name $value;\n$name $value;",
            qr/^"$name" directive is duplicate/, 'twice');
        refused("$name;", qr/^invalid number of arguments in "$name" directive/);
        refused("server {\nlocation / {\nif (\$arg_y) {\n$name $value;",
            qr/^"$name" directive is not allowed here/, '"if" in a location');
        refused("server {\nlocation / {\n$name $value;",
            qr/^"$name" directive is not allowed here/, 'a location') if !$in_location;
    };
}

subtest 'otel_span_attr' => sub {
    accepted('otel_span_attr a b; otel_span_attr a c; otel_span_attr d $arg_x; '
        . 'otel_span_attr e "";');
    accepted("otel_span_attr a \$arg_x $_;") for qw(string int double bool Int);
    refused("otel_span_attr a \$arg_x $_;", qr/^invalid attribute type "\w*": it is "string", "int", "double", "bool" or "hash"/)
        for qw(number "");
    refused('otel_span_attr a b int c;', qr/^invalid number of arguments/);
    refused("otel_span_attr \xff b;", qr/^invalid attribute ".+": its name is/);
    refused('otel_span_attr a;', qr/^invalid number of arguments/);
    refused('otel_span_attr "" b;', qr{^invalid attribute "": its name is to be valid UTF-8, not empty});
};

subtest 'otel_hash_key' => sub {
    $n->write_file('hash.key', 'k' x 32);
    $n->write_file('short.key', 'k' x 15);
    my $use = 'otel_trace on; otel_span_attr a $arg_x hash;';
    accepted("otel_exporter { $OK } otel_hash_key $_; $use") for 'hash.key', '%%PREFIX%%/hash.key';
    refused('otel_hash_key short.key;', qr{^\S+/short\.key holds a key of 15 bytes: it takes 16 to 1024});
    refused('otel_hash_key no.key;', qr{/no\.key cannot be read: No such file});
    refused("otel_hash_key hash.key;\notel_hash_key hash.key;", qr/^"otel_hash_key" directive is duplicate/);
    refused("server {\notel_hash_key hash.key;", qr/^"otel_hash_key" directive is not allowed here/);
    my ($ok, $said) = $n->test("otel_exporter { $OK } $use");
    ok !$ok, 'hash without a key';
    like $said, qr/\[emerg\] .*\botel_hash_key\b/, 'says what it takes' or diag $said;
};

subtest 'otel_span_header' => sub {
    my $token = qr/^invalid header ".*": it takes the name of a header/;
    accepted("otel_exporter { $OK } otel_trace on; otel_span_header $_;")
        for 'request x', 'response X-Y content-type', 'request a; otel_span_header response a';
    my $d = 'otel_span_header request x;';
    accepted("$d server { $d location / { $d if (\$arg_y) { $d } location /b { $d } } }",
        'in all contexts');
    refused("otel_span_header $_;", $token) for 'request "a b"', 'response ""', 'request b:c';
    refused("otel_span_header $_ x;", qr/^invalid value "$_" in "otel_span_header" directive, it must be "request" or "response"/)
        for qw(both Request);
    refused("otel_span_header $_;", qr/^invalid number of arguments/) for qw(request response);
};

subtest 'otel_redact' => sub {
    accepted("otel_exporter { $OK } otel_trace on; otel_redact $_;")
        for 'query=token', 'query=a query=b header=x-secret client_address=/24,/48',
            'query=', 'query=*', 'header=', 'header=*', 'client_address=off';
    my $d = 'otel_redact query=*;';
    accepted("$d server { $d location / { $d if (\$arg_y) { $d } location /b { $d } } }",
        'in all contexts');
    refused("otel_redact $_->[0];", $_->[1]) for
        [ 'token', qr/^unknown word "token": there are "query=key", "header=name" and "client_address=\/24,\/48"/ ],
        [ 'query=* query=a', qr/^"query=a" is not alone/ ],
        [ '"header=a b"', qr/^invalid "header=a b": it takes the name of a header/ ],
        (map { [ "client_address=$_", qr/^invalid "client_address=$_": it takes the bits/ ] } '/24', '24,48', '/33,/48', 'x');
    refused("otel_redact query=a;\notel_redact header=b;", qr/^"otel_redact" directive is duplicate/);
    refused('otel_redact;', qr/^invalid number of arguments/);
};

subtest 'otel_trace_url' => sub {
    my $url = '"https://ui.example.com/trace/{trace_id}?span={span_id}"';
    accepted("otel_exporter { $OK } otel_trace on; otel_trace_url $url;");
    accepted("otel_trace_url $url; server { otel_trace_url $url; }", 'in all contexts');
    refused("server {\notel_trace_url $url;\notel_trace_url $url;", qr/^"otel_trace_url" directive is duplicate/);
    refused('otel_trace_url "https://example.com/";', qr/\{trace_id\}/);
    refused('otel_trace_url "https://example.com/{trace_id}/{nonsense}";', qr/\{nonsense\}/);
    refused('otel_trace_url "ftp://example.com/{trace_id}";', qr/^invalid trace URL "ftp:/);
    refused("server {\nlocation / {\notel_trace_url $url;", qr/^"otel_trace_url" directive is not allowed here/);
};

subtest 'otel_semconv, otel_compat' => sub {
    accepted("otel_exporter { $OK } otel_trace on; otel_semconv $_;") for qw(stable old both);
    refused("otel_semconv $_;", qr/^"$_" is not "stable", "old" or "both"/) for qw(new http);
    accepted("otel_exporter { $OK } otel_trace on; otel_compat ngx_otel_module;");
    accepted("otel_exporter { $OK } otel_compat ngx_otel_module; otel_trace on; otel_sample_rate 10%;",
        'with a rate');
    refused('otel_compat nginx;', qr/^invalid value "nginx" in "otel_compat" directive, it must be "ngx_otel_module"/);
    for my $d ('otel_semconv old;', 'otel_compat ngx_otel_module;') {
        my ($name) = $d =~ /(\w+)/;
        refused("$d\n$d", qr/^"$name" directive is duplicate/);
        refused("server {\n$d", qr/^"$name" directive is not allowed here/);
        refused("$name;", qr/^invalid number of arguments/);
    }
};

subtest 'unknown variables and directives' => sub {
    # These are nginx's own words, without a place.
    for my $text ('otel_trace $nosuch;', 'otel_sample_rate $nosuch;',
        'otel_span_name $nosuch;', 'otel_span_attr a $nosuch;', 'otel_route $nosuch;',
        'otel_trust_context $nosuch;') {
        my ($ok, $said) = $n->test($text);
        ok !$ok, $text;
        like $said, qr/\[emerg\] unknown "nosuch" variable/, 'says which';
    }
    refused('otel_nonsense on;', qr/^unknown directive "otel_nonsense"/);
};

# It never ran: finish() would have nothing to look at.
done_testing;
