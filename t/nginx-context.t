# The context where nginx goes ways of its own: protocols of CGI's kind, subrequests,
# internal redirects, phases that are left out, variables that are read early.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# What a stranger sends: every format that is known. No byte of it may be found
# at an upstream.
my ($T, $P) = ('badbadbadbadbadbadbadbadbadbadba', 'dadadadadadadada');
my @stranger = (
    [ TraceParent         => "00-$T-$P-01" ],
    [ tracestate          => 'evil=1' ],
    [ baggage             => 'user.id=evil,b=2' ],
    [ b3                  => "$T-$P-d" ],
    [ 'X-B3-TraceId'      => $T ],
    [ 'X-B3-SpanId'       => $P ],
    [ 'X-B3-ParentSpanId' => $P ],
    [ 'X-B3-Sampled'      => 'true' ],
    [ 'X-B3-Flags'        => '1' ],
    [ 'uber-trace-id'     => "$T:$P:0:3" ],
    [ 'uberctx-user'      => 'evil' ],
    [ 'X-Amzn-Trace-Id'   => "Root=1-badbadba-badbadbadbadbadbadbadbad;Parent=$P;Sampled=1" ],
);
my %known = map { lc $_->[0] => 1 } @stranger;

sub respond {
    my ($bytes) = @_;
    my ($path) = $bytes =~ m{\A\S+ (\S+)};
    my $length = 'Content-Length: 3';
    return "HTTP/1.1 200 OK\r\nX-Accel-Redirect: $1\r\n$length\r\n\r\nok\n"
        if $path =~ m{accel(/\S+)};
    return "HTTP/1.1 200 OK\r\nCache-Control: max-age=1, stale-while-revalidate=60\r\n"
        . "$length\r\n\r\nok\n" if $path =~ /cached/;
    return "HTTP/1.1 206 Partial\r\nContent-Range: bytes $1-$2/20\r\n"
        . "Content-Length: 10\r\n\r\n0123456789"
        if $path =~ /slice/ && $bytes =~ /^Range: bytes=(\d+)-(\d+)/mi;
    return "HTTP/1.1 200 OK\r\nTraceResponse: theirs\r\nServer-Timing: db;dur=1\r\n"
        . "$length\r\n\r\nok\n"
        if $path =~ /tells/;
    my ($status) = $path =~ m{status/(\d+)};
    return "HTTP/1.1 " . ($status // 200) . " So\r\n$length\r\n\r\nok\n";
}

my $up = EdgespanTest::Upstream->new(respond => \&respond);
my %cgi = map { $_ => EdgespanTest::Upstream->new(protocol => $_) }
    qw(fastcgi scgi uwsgi);

my $n = EdgespanTest::NginxTraced->new(
    vars => { UP => $up->address, (map { uc $_ => $cgi{$_}->address } keys %cgi),
        SEEN => join '', map { my $v = lc $_->[0] =~ tr/-/_/r; "<$_->[0]: \$http_$v>" } @stranger },
    files => { 'html/ssi/page' => '<!--# include virtual="/plain/1" -->'
            . '<!--# include virtual="/off/2" --><!--# include virtual="/ignore/3" -->',
        'html/file' => 'file' },
    http => <<'CONF');
proxy_cache_path %%PREFIX%%/cache keys_zone=cache:1m;
proxy_http_version 1.1;
map $arg_who $who { default $arg_who; }

# whom all believe
server {
    listen 127.0.0.1:%%PORT1%%;
    large_client_header_buffers 8 32k;
    otel_propagators tracecontext baggage b3 b3multi jaeger xray;
    otel_baggage_attr user.id b mine;
    location / { proxy_pass http://%%UP%%; }
    location /w3c { otel_span_attr mine ours; proxy_pass http://%%UP%%; }
    location /fastcgi { fastcgi_pass %%FASTCGI%%; }
    location /scgi { scgi_pass %%SCGI%%; }
    location /uwsgi { uwsgi_pass %%UWSGI%%; }
    location /grpc { grpc_pass grpc://127.0.0.1:%%PORT5%%; }
}

# strangers
server {
    listen 127.0.0.1:%%PORT2%%;
    listen 127.0.0.1:%%PORT3%% http2;
    otel_trust_context off;
    underscores_in_headers on;
    location / { proxy_pass http://%%UP%%; }
    location /plain/ { proxy_pass http://%%UP%%; }
    location /off/ { otel_trace off; proxy_pass http://%%UP%%; }
    location /part/ { otel_trace off; otel_trace_context propagate; proxy_pass http://%%UP%%; }
    location /ignore/ { otel_trace_context ignore; proxy_pass http://%%UP%%; }
    location /extract/ { otel_trace_context extract; proxy_pass http://%%UP%%; }
    location /inject/ { otel_trace_context inject; proxy_pass http://%%UP%%; }
    location /auth { otel_trace off; auth_request /check; proxy_pass http://%%UP%%; }
    location /authon { auth_request /check; proxy_pass http://%%UP%%; }
    location = /check { internal; proxy_pass http://%%UP%%; }
    location /mirror { mirror /mirrored; proxy_pass http://%%UP%%; }
    location = /mirrored { internal; otel_trace off; proxy_pass http://%%UP%%; }
    location /ssi/ { ssi on; ssi_types text/plain; alias %%PREFIX%%/html/ssi/; }
    location /named { error_page 404 = @up; alias %%PREFIX%%/html/none; }
    location /page { error_page 404 /off/page; alias %%PREFIX%%/html/none; }
    location @up { otel_trace off; proxy_pass http://%%UP%%; }
    location /try { try_files /none /ignore/tried; }
    location /accel/ { proxy_pass http://%%UP%%; }
    location /if { if ($arg_off) { otel_trace off; } proxy_pass http://%%UP%%; }
    location /again { rewrite ^ /off/rewritten last; }
    location /slice { otel_trace_context ignore; slice 10; proxy_cache cache;
        proxy_set_header Range $slice_range;
        proxy_cache_key $uri$slice_range; proxy_cache_valid 206 1m; proxy_pass http://%%UP%%; }
    location /cached { otel_trace off; proxy_cache cache; proxy_cache_background_update on;
        proxy_cache_use_stale updating; proxy_pass http://%%UP%%; }
    location /fastcgi { fastcgi_pass %%FASTCGI%%; }
    location /scgi { scgi_pass %%SCGI%%; }
    location /uwsgi { uwsgi_pass %%UWSGI%%; }
    location /off/fastcgi { otel_trace off; fastcgi_pass %%FASTCGI%%; }
    location /off/scgi { otel_trace off; scgi_pass %%SCGI%%; }
    location /off/uwsgi { otel_trace off; uwsgi_pass %%UWSGI%%; }
    location /grpc { grpc_pass grpc://127.0.0.1:%%PORT5%%; }
    location /off/grpc { otel_trace off; grpc_pass grpc://127.0.0.1:%%PORT5%%; }
}

# whoever they say they are
server {
    listen 127.0.0.1:%%PORT4%%;
    otel_trust_context $who;
    otel_propagators tracecontext baggage;
    set $early "$otel_trace_id $otel_parent_id $otel_baggage_user_id";
    set $whom $arg_who;
    location / { proxy_set_header X-Early $early; proxy_pass http://%%UP%%;
        proxy_set_header X-Late "$otel_trace_id $otel_parent_id $otel_baggage_user_id"; }
    location /off { otel_trace off; proxy_pass http://%%UP%%; }
    location /off/on { otel_trace off; error_page 404 /found; alias %%PREFIX%%/html/none; }
}

# what an upstream of gRPC sees
server {
    listen 127.0.0.1:%%PORT5%% http2;
    otel_trace off;
    location / { return 200 "%%SEEN%%"; }
}

# what the client is told
server {
    listen 127.0.0.1:%%PORT7%%;
    listen 127.0.0.1:%%PORT8%% http2;
    otel_response_header traceresponse;
    location / { proxy_pass http://%%UP%%; }
    location /own { add_header X-Own 1; proxy_pass http://%%UP%%; }
    location /timing { otel_response_header server-timing; proxy_pass http://%%UP%%; }
    location /silent { otel_response_header off; proxy_pass http://%%UP%%; }
    location /untraced { otel_trace off; proxy_pass http://%%UP%%; }
    location /file { root %%PREFIX%%/html; }
    location = /timing/file { otel_response_header server-timing; alias %%PREFIX%%/html/file; }
    location /ssi/ { ssi on; ssi_types text/plain; alias %%PREFIX%%/html/ssi/; }
    location /page { error_page 404 /file; root %%PREFIX%%/none; }
    location /204 { return 204; }
    location /never { otel_sample_rate 0; return 200; }
}
server {
    listen 127.0.0.1:%%PORT6%%;
    otel_response_header traceresponse;
    return 403;
}
CONF
$n->start;

sub values_of { return EdgespanTest::Upstream::header_values(@_) }

# Sends a request; what came to $want upstreams.
sub reach {
    my ($port, $path, $headers, $want) = @_;
    my $before = $up->requests;
    http_get($n->port($port), $path, headers => $headers);
    my @all = $up->wait_requests($before + ($want // 1));
    return @all[ $before .. $#all ];
}

# The context headers of a request's bytes: lowercase name => values.
sub context_of {
    my ($bytes) = @_;
    my %got;
    for my $name (keys %known) {
        my @values = values_of($bytes, $name);
        $got{$name} = \@values if @values;
    }
    return \%got;
}

sub params_of {
    my ($protocol, $port, $path, $headers) = @_;
    my $before = $cgi{$protocol}->requests;
    is http_get($n->port($port), $path, headers => $headers)->{body}, "ok\n", 'answered';
    my $params = $cgi{$protocol}->params(($cgi{$protocol}->wait_requests($before + 1))[-1]);
    my %got;
    for my $name (keys %$params) {
        my $header = lc($name =~ s/^HTTP_//r) =~ tr/_/-/r;
        $got{$header} = $params->{$name} if $known{$header} && $name =~ /^HTTP_/;
    }
    return \%got;
}

sub grpc_of {
    my ($port, $path, $headers) = @_;
    my $body = http_get($n->port($port), $path, headers => $headers)->{body};
    my %got;
    while ($body =~ /<([^:>]+): ([^>]*)>/g) { $got{lc $1} = [$2] if $2 ne '' }
    return \%got;
}

sub nothing_of_theirs {
    my ($bytes, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return unlike $bytes, qr/badbadba|dadadada|evil/i, "$what: nothing of the stranger's";
}

my ($GOOD, $PARENT) = ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7');
my @good = ([ traceparent => "00-$GOOD-$PARENT-01" ], [ tracestate => 'a=1' ],
    [ baggage => 'user.id=7,b=%C3%A9;p=1' ]);

subtest 'every protocol of upstreams sees the same headers, once each' => sub {
    my %got;
    my ($bytes) = reach(1, '/x', [@good]);
    $got{http} = context_of($bytes);
    $got{$_} = params_of($_, 1, "/$_", [@good]) for sort keys %cgi;
    $got{grpc} = grpc_of(1, '/grpc', [@good]);
    for my $protocol (sort keys %got) {
        my $headers = $got{$protocol};
        my $id = (split /-/, $headers->{traceparent}[0])[2];
        my ($short) = $GOOD =~ /^(.{8})/;
        my $rest = substr $GOOD, 8;
        is_deeply $headers, {
            traceparent => ["00-$GOOD-$id-01"], tracestate => ['a=1'],
            baggage => ['user.id=7,b=%C3%A9;p=1'], b3 => ["$GOOD-$id-1"],
            'x-b3-traceid' => [$GOOD], 'x-b3-spanid' => [$id], 'x-b3-sampled' => [1],
            'uber-trace-id' => ["$GOOD:$id:0:1"],
            'x-amzn-trace-id' => ["Root=1-$short-$rest;Parent=$id;Sampled=1"],
        }, $protocol;
    }
};

subtest 'what the client sent in a configured format is replaced' => sub {
    my @many = map { [ "X-H$_", $_ ] } 1 .. 200;
    for my $case ([], [ @many[ 0 .. 15 ] ], [@many]) {
        my @mixed = (@stranger, @$case, @stranger[ 3 .. 9, 11 ], [ Host => 'h' ]);
        my ($bytes) = reach(1, '/x', \@mixed);
        my $got = context_of($bytes);
        is join(' ', grep { @{ $got->{$_} } != 1 } sort keys %$got), '',
            @$case . ' other headers: one of each';
        ok !$got->{'x-b3-parentspanid'}, 'none of X-B3-ParentSpanId';
        my ($id) = $got->{b3}[0] =~ /^$T-([0-9a-f]{16})-1$/;
        is $got->{traceparent}[0], "00-$T-$id-01", 'one context';
        ok !$got->{'x-b3-flags'}, 'what the first format does not say is not sent';
        is scalar(grep { values_of($bytes, $_->[0]) } @$case), scalar @$case,
            'all others are there';
    }
};

subtest 'large and many context headers' => sub {
    my $state = join ',', map { sprintf 'v%02d=%s', $_, 'x' x 40 } 1 .. 31;
    my $baggage = join ',', map { sprintf 'k%02d=%s', $_, 'y' x 100 } 1 .. 60;
    my ($bytes) = reach(1, '/x', [ $good[0], [ tracestate => $state ],
        [ baggage => $baggage ] ]);
    is +(values_of($bytes, 'tracestate'))[0], $state, 'tracestate';
    is +(values_of($bytes, 'baggage'))[0], $baggage, 'baggage';
    ($bytes) = reach(1, '/x', [ map {@stranger} 1 .. 40 ]);
    my $got = context_of($bytes);
    is join(' ', grep { $_ ne 'baggage' && $_ ne 'uberctx-user'
        && @{ $got->{$_} } != 1 } sort keys %$got), '', 'forty of each: ours alone go on';
    unlike $got->{traceparent}[0], qr/$T/, 'and none is believed';
};

subtest 'baggage: attributes, behind those of otel_span_attr' => sub {
    my (undef, $record) = $n->recorded(sub { reach(1, '/w3c',
        [ @good[ 0, 1 ], [ baggage => 'user.id=7,b=%C3%A9;p=1,mine=theirs,else=1' ] ]) });
    my $attrs = $n->server_span($record)->{attrs};
    is $attrs->{'user.id'}, 7, 'a key with a dot';
    is $attrs->{b}, "\x{e9}", 'decoded';
    is $attrs->{mine}, 'ours', 'otel_span_attr counts';
    ok !exists $attrs->{else}, 'no other key';
};

# [path, requests at upstreams, how many of them carry a context of ours]
for my $case (
    [ '/x', 1, 1 ], [ '/off/x', 1, 0 ], [ '/part/x', 1, 1 ], [ '/ignore/x', 1, 0 ],
    [ '/extract/x', 1, 0 ], [ '/inject/x', 1, 1 ], [ '/auth', 2, 0 ],
    [ '/authon', 2, 2 ], [ '/mirror', 2, 1 ], [ '/ssi/page', 3, 1 ],
    [ '/named', 1, undef ], [ '/page', 1, undef ], [ '/try', 1, undef ],
    [ '/accel/off/x', 2, undef ], [ '/accel/plain/x', 2, 2 ],
    [ '/accel/ignore/x', 2, 1 ], [ '/if?off=1', 1, 0 ], [ '/if', 1, 1 ], [ '/again', 1, 0 ],
    [ '/slice', 2, 0 ],
) {
    my ($path, $count, $ours) = @$case;
    subtest "not believed: $path" => sub {
        my @requests = reach(2, $path, [@stranger], $count);
        nothing_of_theirs($_, (split ' ', $_)[1]) for @requests;
        is scalar(grep { values_of($_, 'traceparent') == 1 } @requests), $ours,
            "$ours with a context of ours" if defined $ours;
        is scalar(grep { values_of($_, 'traceparent') > 1 } @requests), 0, 'never two';
    };
}

subtest 'not believed: a background update of the cache' => sub {
    my $before = $up->requests;
    my $get = sub { http_get($n->port(2), '/cached', headers => [@stranger])->{status} };
    is $get->(), 200, 'filled';
    wait_for(sub { $get->(); $up->requests >= $before + 2 }, 10, 'an update');
    nothing_of_theirs($_, 'cached') for ($up->requests)[ $before .. $before + 1 ];
};

subtest 'not believed: protocols of CGI\'s kind and gRPC' => sub {
    for my $off ('', '/off') {
        my %got = (map { $_ => params_of($_, 2, "$off/$_", [@stranger]) } sort keys %cgi);
        $got{grpc} = grpc_of(2, "$off/grpc", [@stranger]);
        for my $protocol (sort keys %got) {
            nothing_of_theirs(join("\n", map {@$_} values %{ $got{$protocol} }), $protocol);
            is_deeply [ keys %{ $got{$protocol} } ], $off ? [] : ['traceparent'],
                $off ? 'no context at all' : 'a context of ours';
        }
    }
};

subtest 'not believed: underscores, which CGI cannot tell from hyphens' => sub {
    my @underscored = map { [ $_->[0] =~ tr/-/_/r, $_->[1] ] } @stranger;
    for my $protocol (sort keys %cgi) {
        for my $off ('', '/off') {
            my $got = params_of($protocol, 2, "$off/$protocol", \@underscored);
            is_deeply [ keys %$got ], $off ? [] : ['traceparent'], "$off/$protocol";
        }
    }
};

subtest 'not believed: HTTP/2, HTTP/1.0 and 0.9' => sub {
    for my $path ('/x', '/off/x') {
        my $before = $up->requests;
        system 'curl', qw(-s -o /dev/null --noproxy * --http2-prior-knowledge),
            (map { ('-H', "$_->[0]: $_->[1]") } @stranger),
            'http://127.0.0.1:' . $n->port(3) . $path;
        my @all = $up->wait_requests($before + 1);
        nothing_of_theirs($all[-1], "HTTP/2 $path");
        is scalar(my @tp = values_of($all[-1], 'traceparent')), $path eq '/x' ? 1 : 0,
            'traceparent';
        for my $version ("1.0\r\n" . join('', map {"$_->[0]: $_->[1]\r\n"} @stranger), '') {
            $before = $up->requests;
            http_raw($n->port(2), "GET $path"
                . ($version ne '' ? " HTTP/$version\r\n" : "\r\n"));
            @all = $up->wait_requests($before + 1);
            nothing_of_theirs($all[-1], $version ne '' ? "HTTP/1.0 $path" : "HTTP/0.9 $path");
        }
    }
};

subtest 'not believed: many headers, the context among them' => sub {
    my @many = map { [ "X-H$_", $_ ] } 1 .. 150;
    for my $path ('/x', '/off/x') {
        my ($bytes) = reach(2, $path, [ @many[ 0 .. 70 ], @stranger, @many[ 71 .. 149 ],
            @stranger, [ 'X-Last' => 1 ] ]);
        nothing_of_theirs($bytes, $path);
        is scalar(grep { values_of($bytes, $_->[0]) } @many), 150, 'all others are there';
        is +(values_of($bytes, 'X-Last'))[0], 1, 'to the last';
    }
};

subtest 'a variable says whom to believe' => sub {
    for my $case ([ on => 'same', $PARENT, 7 ], [ off => 'new', '', '' ], [ link => 'new', '', '' ],
        [ '' => 'new', '', '' ], [ nonsense => 'new', '', '' ], [ ON => 'same', $PARENT, 7 ]) {
        my ($who, $trace, $parent, $user) = @$case;
        my $mark = $n->log_mark;
        my ($bytes) = reach(4, "/x?who=$who", [@good]);
        my $id = (split /-/, (values_of($bytes, 'traceparent'))[0])[1];
        is $id eq $GOOD ? 'same' : 'new', $trace, "'$who': $trace trace";
        is +(values_of($bytes, "X-$_"))[0], "$id $parent $user", "variables, $_"
            for qw(Early Late);
        is +($n->log_since($mark) =~ /\[info\].* the variable of "otel_trust_context" is neither "on", "off" nor "link", the caller is not believed/ ? 1 : 0),
            $who eq '' || $who eq 'nonsense' ? 1 : 0, 'said';
        ($bytes) = reach(4, "/off?who=$who", [@good]);
        is_deeply [ values_of($bytes, 'traceparent') ],
            $trace eq 'same' ? ["00-$GOOD-$PARENT-01"] : [], 'also where tracing is off';
    }
    my ($bytes) = reach(4, '/off/on?who=off', [@good]);
    unlike $bytes, qr/$GOOD/, 'off, then an error page that is traced';
    ($bytes) = reach(4, '/off/on?who=on', [@good]);
    like +(values_of($bytes, 'traceparent'))[0], qr/^00-$GOOD-/, 'the same, believed';
};

# What the response says; the record it has to agree with.
sub told {
    my ($path, $name, %opt) = @_;
    my ($answer, $record) = $n->recorded(sub { http_get($n->port(7), $path, %opt) });
    return ($answer, $record, header($answer, $name));
}

subtest 'otel_response_header' => sub {
    for my $case ([ '/x' => 200 ], [ '/own' => 200 ], [ '/status/503' => 503 ],
        [ '/page' => 404 ], [ '/204' => 204 ], [ '/file/none' => 404 ], [ '/tells' => 200 ],
        [ '/ssi/page' => 200 ], [ '/x' => 200, method => 'HEAD' ],
        [ '/file' => 304, headers => [ [ 'If-Modified-Since' =>
            header(http_get($n->port(7), '/file'), 'Last-Modified') ] ] ]) {
        my ($path, $status, %opt) = @$case;
        my ($answer, $record, @values) = told($path, 'traceresponse', %opt);
        is $answer->{status}, $status, "$path: $status";
        is_deeply \@values, ["00-$record->{trace}-$record->{span}-03"], 'traceresponse';
    }
    for my $raw ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nx\r\n\r\n") {
        my ($text, $record) = $n->recorded(sub { scalar http_raw($n->port(6), $raw) });
        is header(parse_response($text), 'traceresponse'),
            "00-$record->{trace}-$record->{span}-03", 'where no location is reached';
    }
    my ($answer, $record, @values) = told('/never', 'traceresponse');
    is_deeply \@values, ["00-$record->{trace}-$record->{span}-02"], 'not sampled';
    ($answer, $record, @values) = told('/timing/tells', 'Server-Timing');
    is_deeply [ sort @values ], [ 'db;dur=1', "trace;desc=00-$record->{trace}-$record->{span}-03" ],
        'beside the Server-Timing of the upstream';
    is header($answer, 'traceresponse'), 'theirs', 'whose traceresponse passes';
    ($answer, $record, @values) =
        told('/timing/file', 'Server-Timing', headers => [ [ Range => 'bytes=99-' ] ]);
    is $answer->{status}, 416, 'a range that is not there';
    is_deeply \@values, ["trace;desc=00-$record->{trace}-$record->{span}-03"], 'Server-Timing once';
    for my $path ('/silent', '/untraced') {
        ($answer) = told($path, 'traceresponse');
        ok !defined header($answer, $_), "$path: no $_" for qw(traceresponse Server-Timing);
    }
    my $h2 = `curl -s -i --noproxy '*' --http2-prior-knowledge http://127.0.0.1:@{[ $n->port(8) ]}/timing`;
    like $h2, qr/^server-timing: trace;desc=00-[0-9a-f]{32}-[0-9a-f]{16}-03\r$/m, 'HTTP/2';
};

subtest 'not believed: also by a process that cannot trace' => sub {
    plan skip_all => 'a sanitizer is preloaded, too' if $n->sanitized;
    my $so = tmpdir() . '/nothread.so';
    system($ENV{CC} || 'cc', qw(-shared -fPIC -O2 -o), $so, repo_root() . '/t/preload/nothread.c')
        == 0 or die 'the preloaded library does not compile';
    my $poor = EdgespanTest::NginxTraced->new(vars => { UP => $up->address },
        env => { LD_PRELOAD => $so }, http => <<'CONF')->start;
map $arg_who $who { default $arg_who; }
server {
    listen 127.0.0.1:%%PORT%%;
    otel_trust_context $who;
    location / { proxy_pass http://%%UP%%; }
}
CONF
    $poor->wait_log(qr/edgespan: this process does not trace: /);
    for my $case ([ off => 0 ], [ nonsense => 0 ], [ on => 1 ]) {
        my ($who, $passes) = @$case;
        my $before = $up->requests;
        http_get($poor->port, "/x?who=$who", headers => [@stranger]);
        my $bytes = ($up->wait_requests($before + 1))[-1];
        is scalar(my @names = keys %{ context_of($bytes) }), $passes ? scalar keys %known : 0,
            "$who: all or nothing";
    }
    $poor->finish;
};

$n->lint;
$n->finish;
done_testing;
