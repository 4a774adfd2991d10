# What the directives do to requests: inheritance, conditions, sampling, names,
# attributes, the resource.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my ($T, $P) = ('12345678901234567890123456789012', 'fedcba9876543210');
my $u = EdgespanTest::Upstream->new;

my $n = EdgespanTest::NginxTraced->new(trace => undef, vars => { UP => $u->address },
    exporter => 'batch_count 4; header X-Key "a b"; header X-Empty "";',
    http => <<'CONF');
otel_service_name edge;
otel_resource_attr service.namespace ns;
otel_resource_attr deployment.environment.name test;
map $arg_t $wanted { default 0; on on; true TRUE; one 1; yes yes; off off; }
map $arg_r $rate { default ""; all 100%; none 0; bad abc; half 0.5; }
server {
    listen 127.0.0.1:%%PORT1%%;
    location / { return 200; }
    location /on { otel_trace on; return 200; }
    location /on/off { otel_trace off; return 200; }
    location /cond { otel_trace $wanted; return 200 "$otel_sampled $otel_trace_flags"; }
    location /condproxy { otel_trace $wanted; proxy_pass http://%%UP%%; }
    location /rate { otel_trace on; otel_sample_rate $rate; return 200; }
    location /rateproxy { otel_trace on; otel_sample_rate $rate; proxy_pass http://%%UP%%; }
    location /quarter { otel_trace on; otel_sample_rate 25%; return 200; }
    location /zero { otel_trace on; otel_sample_rate 0; return 200; }
    location /to-on { otel_trace off; try_files /none /on; }
    location /to-off { otel_trace on; try_files /none /plain; }
    location /rewrite-on { otel_trace off; rewrite ^ /on last; }
    location /rewrite-off { otel_trace on; rewrite ^ /plain last; }
    location /set { set $yes on; otel_trace $yes; return 200; }
}
server {
    listen 127.0.0.1:%%PORT2%%;
    otel_trace on;
    otel_span_name "server $request_method";
    otel_span_attr a server;
    otel_span_attr b server;
    location / { return 200; }
    location /attrs { otel_span_attr c location; return 200; }
    location /attrs/child { return 200; }
    location /last { otel_span_attr c 1; otel_span_attr c 2; return 200; }
    location /replace { otel_span_attr http.route "/api/{id}";
        otel_span_attr url.path $arg_p; otel_span_attr user_agent.original gone;
        otel_span_attr http.response.status_code teapot; return 200; }
    location /empty { otel_span_attr e ""; otel_span_attr f $arg_none; return 200; }
    location /name { otel_span_name "custom $arg_n"; return 200; }
    location /noname { otel_span_name $arg_n; return 200; }
    location /off { otel_trace off; return 200; }
    location /late { otel_span_attr status "$status $upstream_status";
        proxy_pass http://%%UP%%; }
    location /if-on { otel_trace off; if ($arg_on) { otel_trace on; } proxy_pass http://%%UP%%; }
    location /if-off { if ($arg_off) { otel_trace off; } proxy_pass http://%%UP%%; }
    location /if-attr { if ($arg_on) { otel_span_attr from if; otel_span_name if; } proxy_pass http://%%UP%%; }
    location /if-return { otel_trace off; if ($arg_on) { otel_trace on; return 200; } return 200; }
}
server {
    listen 127.0.0.1:%%PORT3%%;
    otel_trace on;
    set $id $otel_trace_id;
    location / { return 200 $id; }
    location /health { otel_trace off; return 200 $id; }
    location /never { otel_sample_rate 0; return 200 $id; }
}
CONF
$n->start;
my ($port, $named, $early) = map { $n->port($_) } 1 .. 3;

# The spans of some requests, by path; made of what arrives until a last one.
sub spans_of {
    my ($p, @requests) = @_;
    my (undef, @records) = $n->recorded(sub {
        for my $request (@requests, '/on') {
            my ($path, @headers) = ref $request ? @$request : $request;
            http_get($path eq '/on' ? $port : $p, $path, headers => \@headers);
        }
    }, 1 + @requests);
    $n->server_span($records[-1]);
    pop @records;
    my %by = map { $_->{span_id} => $_ } $n->collector->spans(kind => 'SERVER');
    return map { $by{ $_->{span} } } @records;
}

sub traced { return join ' ', map { $_ ? 1 : 0 } spans_of(@_) }

subtest 'otel_trace: inheritance' => sub {
    is traced($port, '/', '/on', '/on/off', '/on/x'), '0 1 0 1', 'one server';
    is traced($named, '/', '/off'), '1 0', 'the other';
};

subtest 'otel_trace $variable' => sub {
    my @values = ('', qw(on true one yes off));
    is traced($port, map {"/cond?t=$_"} @values), '0 1 1 1 0 0',
        'on, 1 and true, in any case';
    for my $value (qw(on off)) {
        my $sampled = $value eq 'on' ? 1 : 0;
        is http_get($port, "/cond?t=$value", headers => [
            [ traceparent => "00-$T-$P-01" ] ])->{body}, "$sampled 0$sampled",
            "$value: variables";
        my $before = $u->requests;
        http_get($port, "/condproxy?t=$value");
        my ($tp) = EdgespanTest::Upstream::header_values(
            ($u->wait_requests($before + 1))[-1], 'traceparent');
        like $tp, $sampled ? qr/-03$/ : qr/-02$/, "$value: what is sent on";
    }
};

subtest 'otel_sample_rate $variable' => sub {
    my $mark = $n->log_mark;
    is traced($port, map {"/rate?r=$_"} qw(all none all)), '1 0 1', 'rates';
    unlike $n->log_since($mark), qr/is no rate/, 'no complaint';
    is traced($port, map {"/rate?r=$_"} 'bad', ''), '0 0',
        'what is no rate samples nothing';
    $n->wait_log(qr/edgespan: the variable of "otel_sample_rate" is no rate/, 5,
        $mark);
    is traced($port, [ '/rate?r=none', [ traceparent => "00-$T-$P-01" ] ],
        [ '/rate?r=all', [ traceparent => "00-$T-$P-00" ] ]), '1 0',
        'the caller has decided';
};

subtest 'an internal redirect may switch tracing on, never off' => sub {
    is traced($port, '/to-on', '/to-off'), '1 1', 'try_files';
    is traced($port, '/rewrite-on', '/rewrite-off'), '1 0',
        '"rewrite ... last" is none: the location that serves decides';
};

subtest 'reading an id in server{} fixes the id, not the decision' => sub {
    is traced($early, '/'), '1', 'a traced location';
    is traced($early, '/health'), '0', 'otel_trace off';
    is traced($early, '/never'), '0', 'otel_sample_rate 0';
    my ($answer, $record) = $n->recorded(sub { http_get($early, '/') });
    is $answer->{body}, $record->{trace}, 'the id stays';
};

subtest '"set" of the same location' => sub {
    is traced($port, '/set'), '1', 'is seen by otel_trace';
};

subtest '"if" in a location' => sub {
    my @spans = spans_of($named, '/if-on', '/if-on?on=1', '/if-off',
        '/if-off?off=1', '/if-return', '/if-return?on=1');
    is join(' ', map { $_ ? 1 : 0 } @spans), '0 1 1 0 0 1', 'otel_trace';
    my @sent = map { scalar(() = EdgespanTest::Upstream::header_values($_,
        'traceparent')) } ($u->requests)[ -4 .. -1 ];
    is "@sent", '0 1 1 0', 'traceparent is sent on as it is traced';
    my ($with, $without) = spans_of($named, '/if-attr?on=1', '/if-attr');
    is $with->{attrs}{from}, 'if', 'otel_span_attr';
    is $with->{name}, 'if', 'otel_span_name';
    is $without->{attrs}{from}, undef, 'not without the condition';
};

subtest 'otel_span_attr' => sub {
    my ($server, $location, $child, $last, $replace, $empty, $late)
        = spans_of($named, '/', '/attrs', '/attrs/child', '/last',
        [ '/replace?p=x', [ 'User-Agent', 'ua' ] ], '/empty', '/late');
    my $own = sub { join ' ', map {"$_=$_[0]{attrs}{$_}"}
        grep {/^.$/} sort keys %{ $_[0]{attrs} } };
    is $own->($server), 'a=server b=server', 'inherited';
    is $own->($location), 'c=location', "a list replaces its parent's";
    is $own->($child), 'a=server b=server', 'no sibling inherits it';
    is $own->($last), 'c=2', 'the last one counts';
    is $replace->{attrs}{'http.route'}, '/api/{id}', 'replaces http.route';
    is $replace->{attrs}{'url.path'}, 'x', 'and url.path';
    is $replace->{attrs}{'user_agent.original'}, 'gone', 'and the User-Agent';
    is $replace->{attrs}{'http.response.status_code'}, 'teapot',
        'and a number by a string';
    is $empty->{attrs}{e}, '', 'an empty value is a value';
    is $late->{attrs}{status}, '200 200', 'variables have their final values';
};

subtest 'otel_span_name' => sub {
    my @spans = spans_of($named, '/', '/name?n=x', '/noname?n=y', '/noname');
    is join('|', map { $_->{name} } @spans), 'server GET|custom x|y|GET /noname*',
        'names; an empty one is none';
};

subtest 'what a client sends is mended, not refused' => sub {
    my ($bad, $long, $agent) = spans_of($named, "/name?n=a\xffb",
        '/replace?p=' . 'x' x 6000,
        [ '/', [ 'User-Agent', "\xc3(\xf0\xe2\x82\xac" ] ]);
    is $bad->{name}, "custom a\x{fffd}b", 'invalid UTF-8 in a name';
    is $agent->{attrs}{'user_agent.original'}, "\x{fffd}(\x{fffd}\x{20ac}",
        'in a header';
    is length $long->{attrs}{'url.path'}, 4096, 'a value of 6000 characters';
};

subtest 'resource' => sub {
    my ($span) = $n->collector->spans;
    my $r = $span->{resource};
    is_deeply { map { $_ => $r->{$_} } grep { !/^(?:host|os|process|webengine)[.]|[.]version$|^service.instance/ } keys %$r },
        { 'service.name' => 'edge', 'service.namespace' => 'ns',
        'deployment.environment.name' => 'test',
        'telemetry.distro.name' => 'edgespan',
        'telemetry.sdk.name' => 'edgespan', 'telemetry.sdk.language' => 'c' },
        'as configured, beside what was found out: resource.t';
    my ($request) = $n->collector->requests;
    is header($request, 'X-Key'), 'a b', 'a header of the export';
    is header($request, 'X-Empty'), '', 'an empty one';
    like header($request, 'User-Agent'), qr/edgespan/, 'User-Agent';
};

subtest 'otel_sample_rate 25%' => sub {
    my $count = 4000;
    my $before = $n->records;
    system("ab -q -k -n $count -c 8 http://127.0.0.1:$port/quarter"
        . ' >/dev/null 2>&1') == 0 or die 'ab failed';
    is traced($port, ('/zero') x 20), join(' ', (0) x 20), 'rate 0';
    my @records = grep { $_->{request} =~ /quarter/ } $n->records;
    is @records, $count, 'requests';
    my $ids = $n->collector->span_ids_fast;
    my $sampled = grep { $ids->{ $_->{span} } } @records;
    # Four standard deviations: one failure in 15000 runs.
    cmp_ok abs($sampled - $count / 4), '<', 4 * sqrt($count * 0.25 * 0.75),
        "$sampled of $count";
    # R >= T, R being the low 56 bits: other services decide alike.
    my @wrong = grep { ($ids->{ $_->{span} } ? 1 : 0)
        != (substr($_->{trace}, 18) ge 'c0000000000000') } @records;
    is scalar @wrong, 0, 'each as its trace id says';
};

subtest 'batch_count: one notice' => sub {
    is scalar(() = $n->error_log =~ /"batch_count" is accepted/g), 1, 'one';
};

$n->lint;
$n->finish;

# The environment is the master's: nginx keeps the variables that "env" names.
sub resource_with {
    my ($env, $conf, $more) = @_;
    my $e = EdgespanTest::NginxTraced->new(env => $env, name => 'log: ' . join(
        ' ', %$env) =~ s/[^ -~]/?/gr, http => ($conf // '')
        . 'server { listen 127.0.0.1:%%PORT1%%; location / { return 200; } }')
        ->start;
    my $resource = sub {
        my (undef, $record) = $e->recorded(sub { http_get($e->port(1), '/') });
        my %r = %{ $e->server_span($record)->{resource} };
        delete $r{$_} for grep {/^(?:telemetry|host|os|process|webengine|service.instance)[.]/} keys %r;
        return \%r;
    };
    my $first = $resource->();
    if ($more) {
        $e->reload(undef, drain => 1);
        is_deeply $resource->(), $first, 'the same after a reload';
    }
    $first->{log} = $e->error_log;
    $e->finish;
    return $first;
}

subtest 'environment' => sub {
    my $r = resource_with({}, '', 1);
    delete $r->{log};
    is_deeply $r, { 'service.name' => 'unknown_service:nginx' }, 'default';
    $r = resource_with({ OTEL_SERVICE_NAME => 'from env',
        OTEL_RESOURCE_ATTRIBUTES => 'a=b, c = d%2Ce ,service.name=no' }, '', 1);
    delete $r->{log};
    is_deeply $r, { 'service.name' => 'from env', a => 'b', c => 'd,e' },
        'OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES';
    $r = resource_with({ OTEL_RESOURCE_ATTRIBUTES => 'service.name=attr' });
    is $r->{'service.name'}, 'attr', 'service.name of the attributes';
    $r = resource_with({ OTEL_SERVICE_NAME => 'env',
        OTEL_RESOURCE_ATTRIBUTES => 'a=env,b=env' },
        'otel_service_name conf; otel_resource_attr a conf;');
    delete $r->{log};
    is_deeply $r, { 'service.name' => 'conf', a => 'conf', b => 'env' },
        'directives come first';
    for my $bad ('a=b,nonsense', 'a=%zz', 'a=b,c=%ff', '=x') {
        $r = eval { resource_with({ OTEL_RESOURCE_ATTRIBUTES => $bad }) };
        is $r->{'service.name'}, 'unknown_service:nginx', "$bad: it starts";
        is $r->{a}, undef, 'the whole variable is ignored';
        like $r->{log} // '', qr/\[warn\] .*OTEL_RESOURCE_ATTRIBUTES is ignored/,
            'with a warning';
    }
    $r = eval { resource_with({ OTEL_SERVICE_NAME => "a\xff" }) };
    ok $r, 'a service name that is no UTF-8 makes no invalid message' or diag $@;
};

done_testing;
