# The drop-in for ngx_otel_module: a configuration that was written for it, the
# scenarios of its own tests told again, and, with otel_compat, spans that are
# attribute for attribute what it writes. What that is, is said here in words of
# its source (onRequestStart(), onRequestEnd(), addDefaultAttrs(), addCustomAttrs()).

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::GrpcCollector;
use EdgespanTest::Nginx;
use EdgespanTest::Upstream;

my $missing = EdgespanTest::GrpcCollector::missing();
plan skip_all => $missing if $missing;

my $c = EdgespanTest::GrpcCollector->new;
my $up = EdgespanTest::Upstream->new(respond => sub {
    return 'hang' if $_[0] =~ m{\A\S+ /hang};
    return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", 'close' if $_[0] =~ m{\A\S+ /cut};
    return EdgespanTest::Upstream::http_response();
});
my $certificates = EdgespanTest::Certificates->new('DNS:localhost');
$certificates->authority('localhost');

# As its own tests have it; the ports are ours, HTTP/2 is switched on in the way of
# every version, QUIC is left out where this nginx has none.
my $TEXT = <<'CONF';
    ssl_certificate %%CERT%%/localhost.pem;
    ssl_certificate_key %%CERT%%/localhost.key;

    otel_exporter {
        endpoint %%ENDPOINT%%;
        interval %%INTERVAL%%;
        batch_size 3;
        batch_count 3;
        %%OPTIONS%%
    }

    otel_trace on;
    %%RESOURCE%%

    server {
        listen       127.0.0.1:%%PORT2%% ssl http2;
        listen       127.0.0.1:%%PORT1%%;
        server_name  localhost;

        location /ok { return 200 "OK"; }
        location /err { return 500 "ERR"; }
        location /custom {
            otel_span_name custom_location;
            otel_span_attr http.request.completion $request_completion;
            otel_span_attr http.response.header.content.type $sent_http_content_type;
            otel_span_attr http.request $request;
            return 200 "OK";
        }
        location /vars {
            otel_trace_context extract;
            add_header "X-Otel-Trace-Id" $otel_trace_id;
            add_header "X-Otel-Span-Id" $otel_span_id;
            add_header "X-Otel-Parent-Id" $otel_parent_id;
            add_header "X-Otel-Parent-Sampled" $otel_parent_sampled;
            return 204;
        }
        location /ignore { proxy_pass http://127.0.0.1:%%PORT1%%/notrace; }
        location /extract { otel_trace_context extract; proxy_pass http://127.0.0.1:%%PORT1%%/notrace; }
        location /inject { otel_trace_context inject; proxy_pass http://127.0.0.1:%%PORT1%%/notrace; }
        location /propagate { otel_trace_context propagate; proxy_pass http://127.0.0.1:%%PORT1%%/notrace; }
        location /notrace {
            otel_trace off;
            add_header "X-Otel-Traceparent" $http_traceparent;
            add_header "X-Otel-Tracestate" $http_tracestate;
            return 204;
        }
        %%MORE%%
    }
CONF

# What the tests of this file need besides.
my $MORE = <<'CONF';
        location /proxy { otel_trace_context propagate; proxy_pass http://%%UP%%; }
        location /hang { proxy_pass http://%%UP%%; }
        location /cut { proxy_pass http://%%UP%%; }
        location /closed { return 444; }
        location /page { error_page 404 /found; root %%PREFIX%%/none; }
        location /named { error_page 404 = @fallback; root %%PREFIX%%/none; }
        location @fallback { return 200 named; }
        location /found { return 200 found; }
        location /on-off { error_page 404 = /notrace; root %%PREFIX%%/none; }
        location /off-on { otel_trace off; error_page 404 = /found; root %%PREFIX%%/none; }
        location /again { rewrite ^ /ok last; }
        location /set { set $late on; otel_trace $late; return 204; }
        location /parent { otel_trace $otel_parent_sampled; otel_trace_context propagate;
            proxy_pass http://%%UP%%; }
        location /ratio { otel_trace $ratio; otel_trace_context inject; proxy_pass http://%%UP%%; }
        location /lazy { otel_trace off; add_header X-Id "$otel_trace_id:$otel_span_id"; return 204; }
        location /auth { auth_request /check; root %%PREFIX%%/html; }
        location /check { proxy_pass http://%%UP%%; }
        location = /exact { return 204; }
        location ~ ^/regex/\d+$ { return 204; }
        location /attrs { otel_span_attr outer 1; otel_span_attr twice 1;
            location /attrs/inner { otel_span_attr inner $arg_none; return 204; }
            location /attrs/same { return 204; } }
CONF

sub server {
    my (%opt) = @_;
    my $text = $TEXT =~ s/%%MORE%%/$opt{more} \/\/ ''/er;
    my $http = delete $opt{http} // '';
    return EdgespanTest::Nginx->new(files => { 'html/auth' => "auth\n" },
        vars => { ENDPOINT => '127.0.0.1:' . $c->port, INTERVAL => '1ms',
            CERT => $certificates->dir, OPTIONS => '', RESOURCE => '', MORE => '', UP => $up->address,
            %{ $opt{vars} // {} } },
        http => "split_clients \$otel_trace_id \$ratio { 50% on; * off; }\n"
            . "large_client_header_buffers 2 1k;\n$http\n$text");
}

# All new spans of one request; there is nothing else to wait for than the one.
my $seen = 0;
sub spans_of {
    my ($n, $code, %opt) = @_;
    my $answer = $code->();
    my @spans;
    wait_for(sub { @spans = $c->spans; splice @spans, 0, $seen; @spans >= ($opt{count} // 1) },
        $opt{timeout} // 30, 'a span');
    $seen += @spans;
    return wantarray ? ($answer, @spans) : $spans[0];
}

# No span: the one of a request behind it comes first.
sub no_span {
    my ($n, $code, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($answer, @spans) = spans_of($n, sub { my $a = $code->(); http_get($n->port(1), '/exact'); $a });
    is_deeply [ map { $_->{attrs}{'http.target'} // $_->{attrs}{'url.path'} } @spans ], ['/exact'], $what;
    return $answer;
}

# A header of the last request that the upstream got.
sub sent {
    my ($name) = @_;
    return (EdgespanTest::Upstream::header_values(($up->requests)[-1], $name))[0];
}

# addDefaultAttrs()
sub official {
    my ($n, $span, %more) = @_;
    my %attrs = ('http.method' => 'GET', 'http.scheme' => 'http', 'http.flavor' => '1.1',
        'http.request_content_length' => 0, 'http.response_content_length' => 0,
        'http.status_code' => 204, 'net.host.name' => 'localhost', 'net.host.port' => $n->port(1),
        'net.sock.peer.addr' => '127.0.0.1', %more);
    delete @attrs{ grep { !defined $attrs{$_} } keys %attrs };
    my $peer = $span->{attrs}{'net.sock.peer.port'};
    $attrs{'net.sock.peer.port'} = $peer if ($peer // 0) =~ /^\d{4,5}$/;
    return \%attrs;
}

my ($T, $P) = ('0af7651916cd43dd8448eb211c80319c', 'b9c7c989f97918e1');
my $state = 'congo=ucfJifl5GOE,rojo=00f067aa0ba902b7';
sub parent { return [ [ Traceparent => "00-$T-$P-" . ($_[0] // '01') ], [ Tracestate => $state ] ] }

my $n = server(more => $MORE, http => 'otel_compat ngx_otel_module;')->start;
my $port = $n->port(1);

subtest 'default attributes' => sub {
    for my $case ([ '/ok', 200, 'OK' ], [ '/err', 500, 'ERR' ]) {
        my ($path, $status, $body) = @$case;
        for my $version ('1.1', '2.0') {
            my $tls = $version eq '2.0';
            my $at = $n->port($tls ? 2 : 1);
            my $url = ($tls ? 'https' : 'http') . "://127.0.0.1:$at$path";
            my (undef, $span) = spans_of($n, sub { `curl -s -k -A agent/1 @{[ $tls ? '--http2' : '' ]} $url` });
            is $span->{name}, $path, "$url: its name is that of the location";
            is $span->{kind}, 'SERVER', 'its kind';
            is_deeply $span->{attrs}, official($n, $span, 'http.target' => $path, 'http.route' => $path,
                'http.scheme' => $tls ? 'https' : 'http', 'http.flavor' => $version,
                'http.user_agent' => 'agent/1', 'http.status_code' => $status,
                'http.response_content_length' => length $body, 'net.host.port' => $at), 'its attributes';
            is $span->{status}{code}, $status >= 500 ? 'ERROR' : 'UNSET', 'its status';
            is_deeply [ @$span{qw(events links)}, $span->{status}{message} ], [ [], [], '' ], 'and nothing else';
        }
    }
};

subtest 'HTTP/0.9' => sub {
    my ($answer, $span) = spans_of($n, sub { scalar http_raw($port, "GET /ok\n") });
    is $answer, 'OK', 'the answer';
    is $span->{name}, '/ok', 'the name';
    is_deeply $span->{attrs}, official($n, $span, 'http.target' => '/ok', 'http.route' => '/ok',
        'http.flavor' => undef, 'http.status_code' => 200, 'http.response_content_length' => 2), 'the attributes';
};

subtest 'attributes of other requests' => sub {
    my $get = sub { my @r = @_; return sub { http_get($port, @r) } };
    for my $case (
        [ 'a query', $get->('/exact?sig=1&a=b'), '/exact', 'http.target' => '/exact?sig=REDACTED&a=b' ],
        [ 'a regular expression', $get->('/regex/1'), '^/regex/\d+$', 'http.target' => '/regex/1' ],
        [ 'a body', $get->('/proxy', method => 'POST', body => '12345'), '/proxy', 'http.target' => '/proxy',
            'http.method' => 'POST', 'http.request_content_length' => 5, 'http.status_code' => 200,
            'http.response_content_length' => 3 ],
        [ 'an unknown method', $get->('/exact', method => 'BREW'), '/exact', 'http.target' => '/exact',
            'http.method' => 'BREW' ],
        # method_name and the location are those of the page, and so is the name
        [ 'an error page', $get->('/page', method => 'POST', body => '1'), '/found', 'http.target' => '/page',
            'http.status_code' => 404, 'http.response_content_length' => 5,
            'http.request_content_length' => undef ],
        [ 'a named location', $get->('/named'), '@fallback', 'http.target' => '/named',
            'http.status_code' => 200, 'http.response_content_length' => 5 ],
        [ 'rewrite ... last', $get->('/again'), '/ok', 'http.target' => '/again',
            'http.status_code' => 200, 'http.response_content_length' => 2 ],
        [ 'an absolute target', sub { scalar http_raw($port, "GET http://other/exact HTTP/1.1\r\nHost: third\r\nConnection: close\r\n\r\n") },
            '/exact', 'http.target' => '/exact' ],
        [ '444', $get->('/closed'), '/closed', 'http.target' => '/closed', 'http.status_code' => 444 ],
        [ 'an upstream that stops', $get->('/cut'), '/cut', 'http.target' => '/cut', 'http.status_code' => 200,
            'http.response_content_length' => 3 ],
        [ '499', sub {
                my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die $!;
                my $before = @{ [ $up->requests ] };
                syswrite $sock, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n";
                $up->wait_requests($before + 1);
                close $sock;
            }, '/hang', 'http.target' => '/hang', 'http.status_code' => 499 ],
    ) {
        my ($what, $code, $route, %attrs) = @$case;
        my (undef, $span) = spans_of($n, $code);
        # What is left of a body that is discarded is a question of time.
        if (exists $attrs{'http.request_content_length'} && !defined $attrs{'http.request_content_length'}) {
            delete $span->{attrs}{'http.request_content_length'};
        }
        is $span->{name}, $route, "$what: the name";
        is_deeply $span->{attrs}, official($n, $span, 'http.route' => $route, %attrs), 'the attributes'
            or diag explain $span->{attrs};
        is $span->{status}{code}, 'UNSET', 'the status';
    }
};

subtest 'otel_span_name, otel_span_attr' => sub {
    my (undef, $span) = spans_of($n, sub { http_get($port, '/custom') });
    is $span->{name}, 'custom_location', 'the name';
    my $a = $span->{attrs};
    is $a->{'http.request.completion'}, 'OK', 'a variable';
    is_deeply $a->{'http.response.header.content.type'}, ['text/plain'], 'a header is an array';
    is $a->{'http.request'}, 'GET /custom HTTP/1.1', 'what only begins like one is a string';
    my @own = map { my ($x, $s) = spans_of($n, sub { http_get($port, "/attrs/$_") }); $s->{attrs} } qw(inner same);
    is_deeply [ map { join ' ', grep {/^(?:outer|inner|twice)$/} sort keys %$_ } @own ], [ 'inner', 'outer twice' ],
        'the list of a location replaces that of the outer one';
    is $own[0]{inner}, '', 'an empty value is a value';
};

subtest 'otel_trace' => sub {
    no_span($n, sub { http_get($port, '/notrace') }, 'off');
    # $late is set by the rewrite module, whose handler comes after.
    no_span($n, sub { http_get($port, '/set') }, 'a variable that the location sets is not set yet');
    no_span($n, sub { http_raw($port, "NONSENSE\r\n\r\n") }, 'what is no request has no location');
    no_span($n, sub { http_get($port, '/off-on') }, 'a redirect from where it is off switches nothing on');
    my (undef, $span) = spans_of($n, sub { http_get($port, '/on-off') });
    is $span->{attrs}{'http.target'}, '/on-off', 'and from where it is on, nothing off';
    my ($answer, @spans) = spans_of($n, sub { http_get($port, '/parent', headers => parent('01')) });
    is $spans[0]{trace_id}, $T, '$otel_parent_sampled: the parent is sampled';
    no_span($n, sub { http_get($port, '/parent', headers => parent('00')) }, 'it is not');
    like sent('traceparent'),
        qr/^00-$T-[0-9a-f]{16}-00$/, 'and the upstream is told so';
};

subtest 'variables' => sub {
    for my $given (0, 1) {
        my ($answer, $span) = spans_of($n, sub { http_get($port, '/vars', headers => $given ? parent() : []) });
        is $span->{trace_id}, $T, 'the trace of the parent' if $given;
        is $span->{parent_span_id}, $given ? $P : '', 'its span';
        is $span->{trace_state}, $given ? $state : '', 'its state';
        is header($answer, 'X-Otel-Trace-Id'), $span->{trace_id}, '$otel_trace_id';
        is header($answer, 'X-Otel-Span-Id'), $span->{span_id}, '$otel_span_id';
        is header($answer, 'X-Otel-Parent-Id') // '', $span->{parent_span_id}, '$otel_parent_id';
        is header($answer, 'X-Otel-Parent-Sampled'), $given, '$otel_parent_sampled';
    }
    my $answer = no_span($n, sub { http_get($port, '/lazy', headers => parent()) }, 'otel_trace off');
    my ($trace) = header($answer, 'X-Id') =~ /^([0-9a-f]{32}):[0-9a-f]{16}$/;
    ok $trace, 'ids are there for whoever asks' or diag header($answer, 'X-Id');
    isnt $trace, $T, 'not the caller\'s: its context is ignored';
};

subtest 'otel_trace_context' => sub {
    for my $path (qw(/ignore /extract /inject /propagate)) {
        for my $given (0, 1) {
            my ($answer, @spans) = spans_of($n, sub { http_get($port, $path, headers => $given ? parent() : []) });
            is scalar @spans, 1, "$path: one span";
            my $span = $spans[0];
            my $goes_on = $given && $path =~ /extract|propagate/;
            is $span->{trace_id} eq $T, !!$goes_on, 'its trace';
            is $span->{parent_span_id}, $goes_on ? $P : '', 'its parent';
            is $span->{trace_state}, $goes_on ? $state : '', 'its state';
            my ($context, $sent_state) = map { header($answer, "X-Otel-$_") } qw(Traceparent Tracestate);
            if ($path =~ /inject|propagate/) {
                like $context, qr/^00-$span->{trace_id}-$span->{span_id}-0[13]$/, 'what the upstream gets';
                is $sent_state, $goes_on ? $state : undef, 'and the state';
            }
            else {
                is $context, $given ? "00-$T-$P-01" : undef, 'what the upstream gets';
                is $sent_state, $given ? $state : undef, 'and the state';
            }
        }
    }
};

subtest 'the parent does not decide' => sub {
    my ($answer, $span) = spans_of($n, sub { http_get($port, '/proxy', headers => parent('00')) });
    is "$span->{trace_id} $span->{parent_span_id}", "$T $P", 'a parent that is not sampled has a span below';
    no_span($n, sub { http_get($port, '/notrace', headers => parent('01')) }, 'one that is, has none');
    my $recorded = 0;
    for (1 .. 40) {
        http_get($port, '/ratio');
        $recorded++ if sent('traceparent') =~ /-0[13]$/;
    }
    ok $recorded > 0 && $recorded < 40, 'split_clients by $otel_trace_id: some are' or diag $recorded;
    $c->wait_spans($seen + $recorded, 30);
    $seen = () = $c->spans;
};

subtest 'subrequests and upstreams have no spans' => sub {
    my ($answer, @spans) = spans_of($n, sub { http_get($port, '/auth') });
    is $answer->{body}, "auth\n", 'the answer';
    is_deeply [ map { "$_->{kind} $_->{name}" } @spans ], ['SERVER /auth'], 'one span';
    no_span($n, sub { }, 'and no more');
};

$n->finish;

subtest 'directives beside otel_compat' => sub {
    my $other = server(http => 'otel_compat ngx_otel_module; otel_semconv stable;', more => <<'CONF')->start;
        location = /exact { return 204; }
        location /a { otel_trace_context propagate; otel_upstream_span on;
            otel_sampler parentbased_always_on; otel_span_name ours; proxy_pass http://%%UP%%; }
        location /a/b { otel_upstream_span off; otel_trace_context extract; proxy_pass http://%%UP%%; }
        location /auth { otel_subrequest_span on; auth_request /check; root %%PREFIX%%/html; }
        location /check { otel_subrequest_span on; proxy_pass http://%%UP%%; }
CONF
    my $at = $other->port(1);
    my ($answer, @spans) = spans_of($other, sub { http_get($at, '/a', headers => parent()) }, count => 2);
    is_deeply [ sort map { $_->{kind} } @spans ], [ 'CLIENT', 'SERVER' ], 'otel_upstream_span on';
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    is "$server->{name} $server->{trace_id}", "ours $T", 'otel_span_name, otel_trace_context';
    is $server->{attrs}{'url.path'}, '/a', 'otel_semconv stable';
    ok !exists $server->{attrs}{'http.target'}, 'alone';
    no_span($other, sub { http_get($at, '/a', headers => parent('00')) }, 'otel_sampler parentbased_...');
    ($answer, @spans) = spans_of($other, sub { http_get($at, '/a/b', headers => parent('00')) });
    is scalar @spans, 1, 'the innermost word counts';
    ($answer, @spans) = spans_of($other, sub { http_get($at, '/auth') }, count => 2);
    is_deeply [ sort map { $_->{kind} } @spans ], [ 'INTERNAL', 'SERVER' ], 'otel_subrequest_span on';
    $other->finish;
};

subtest 'each difference, and its way back by a directive' => sub {
    my $ours = server(more => $MORE)->start;
    my $at = $ours->port(1);
    my $official = server(more => $MORE, http => 'otel_trace_context ignore; otel_semconv old; '
        . 'otel_span_name $otel_location; otel_sampler always_on; otel_upstream_span off; otel_subrequest_span off;')->start;
    my $back = $official->port(1);
    my @get = (headers => parent('01'));

    my ($answer, @spans) = spans_of($ours, sub { http_get($at, '/ignore', @get) }, count => 2);
    is_deeply [ map { $_->{trace_id} } @spans ], [ $T, $T ], 'the context goes on';
    like header($answer, 'X-Otel-Traceparent'), qr/^00-$T-(?!$P)/, 'also to upstreams';
    ($answer, @spans) = spans_of($official, sub { http_get($back, '/ignore', @get) });
    isnt $spans[0]{trace_id}, $T, 'otel_trace_context ignore';
    is header($answer, 'X-Otel-Traceparent'), "00-$T-$P-01", 'leaves the headers alone';
    is scalar @spans, 1, 'otel_upstream_span off';
    is $spans[0]{name}, '/ignore', 'otel_span_name $otel_location';
    is $spans[0]{attrs}{'http.target'}, '/ignore', 'otel_semconv old';

    no_span($ours, sub { http_get($at, '/proxy', headers => parent('00')) }, 'the parent decides');
    ($answer, @spans) = spans_of($official, sub { http_get($back, '/proxy', headers => parent('00')) });
    is scalar @spans, 1, 'otel_sampler always_on: it does not';

    ($answer, @spans) = spans_of($ours, sub { http_get($at, '/auth') }, count => 3);
    is_deeply [ sort map { $_->{kind} } @spans ], [qw(CLIENT INTERNAL SERVER)], 'subrequests have spans';
    ($answer, @spans) = spans_of($official, sub { http_get($back, '/auth') });
    is_deeply [ map { $_->{kind} } @spans ], ['SERVER'], 'otel_subrequest_span off';

    ($answer, @spans) = spans_of($ours, sub { http_get($at, '/off-on') });
    is $spans[0]{attrs}{'url.path'}, '/off-on', 'a redirect may switch tracing on';
    my $id = header(http_get($at, '/lazy', headers => parent()), 'X-Id');
    like $id, qr/^$T:[0-9a-f]{16}$/, 'where nothing is traced, $otel_trace_id is that of the caller';
    $_->finish for $ours, $official;
};

subtest 'batches' => sub {
    my $b = server(http => 'otel_compat ngx_otel_module;', more => 'location = /exact { return 204; }',
        vars => { INTERVAL => '1h', ENDPOINT => 'http://127.0.0.1:' . $c->port })->start;
    for my $count (1, 3) {
        my $before = () = $c->requests;
        http_get($b->port(1), '/ok') for 1 .. 3 * $count;
        my @requests = grep { $_->{n} } $c->wait_requests($before + $count, 30);
        my @spans = $c->wait_spans($seen + 3 * $count, 30);
        splice @spans, 0, $seen;
        $seen += @spans;
        my %sizes;
        $sizes{ $_->{request_n} }++ for @spans;
        is_deeply [ values %sizes ], [ (3) x $count ], "$count of three spans";
        is $_->{resource}{'service.name'}, 'unknown_service:nginx', 'the default service' for $spans[0];
    }
    $b->finish;
};

subtest 'resource, headers of the exporter' => sub {
    my $r = server(http => 'otel_compat ngx_otel_module;', vars => {
        RESOURCE => 'otel_service_name "test_service"; otel_resource_attr my.name "my name"; '
            . 'otel_resource_attr my.service "my service";',
        OPTIONS => 'header X-API-TOKEN api.value; header Authorization "Basic value";' })->start;
    my (undef, $span) = spans_of($r, sub { http_get($r->port(1), '/ok') });
    is $span->{resource}{$_->[0]}, $_->[1], $_->[0]
        for [ 'service.name', 'test_service' ], [ 'my.name', 'my name' ], [ 'my.service', 'my service' ];
    my ($request) = grep { $_->{n} == $span->{request_n} } $c->requests;
    is header($request, 'x-api-token'), 'api.value', 'a header';
    is header($request, 'authorization'), 'Basic value', 'another';
    $r->finish;
};

subtest 'TLS' => sub {
    my $dir = $certificates->dir;
    my $front = EdgespanTest::Nginx->new(module => 0, http => "server { listen 127.0.0.1:%%PORT1%% ssl http2;\n"
        . "ssl_certificate $dir/localhost.pem; ssl_certificate_key $dir/localhost.key;\n"
        . 'location / { grpc_pass grpc://127.0.0.1:' . $c->port . '; } }')->start;
    my $certificate = slurp("$dir/localhost.pem");
    my $t = server(http => 'otel_compat ngx_otel_module;', vars => {
        ENDPOINT => 'https://localhost:' . $front->port(1), OPTIONS => 'trusted_certificate localhost.crt;' });
    $t->write_file('localhost.crt', $certificate);
    $t->start;
    my (undef, $span) = spans_of($t, sub { http_get($t->port(1), '/ok') });
    is $span->{name}, '/ok', 'a span came';
    $_->finish for $t, $front;
};

subtest 'what its configurations may hold' => sub {
    my $check = EdgespanTest::Nginx->new;
    for my $endpoint ('localhost:4317', '127.0.0.1:4317', 'http://localhost:4317', 'https://localhost:4317',
        'HTTPS://collector.example.com:443', '[::1]:4317', 'unix:/run/otel.sock') {
        for my $words ('', 'otel_compat ngx_otel_module;') {
            my $mark = $check->log_mark;
            my ($ok, $said) = $check->test("otel_exporter { endpoint $endpoint; interval 5s; batch_size 512; batch_count 4; } "
                . "otel_trace on; $words");
            ok $ok, "$endpoint $words" or diag $said;
            like $check->log_since($mark) . $said, qr/ as grpc/, 'gRPC';
        }
    }
    for my $line ('otel_trace 1;', 'otel_trace 0;', 'otel_trace $arg_a;', 'otel_trace_context extract;',
        'otel_span_name $uri;', 'otel_span_attr a $uri;') {
        my ($ok, $said) = $check->test("otel_exporter { endpoint a:4317; } $line server { $line location / { $line } }");
        ok $ok, $line or diag $said;
    }
};

done_testing;
