# httpd: a CLIENT span for each try of an upstream, whose id is what that upstream sees.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Httpd;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

# An address where nobody listens.
sub dead { return '127.0.0.1:' . free_port() }

# The CLIENT spans of a request, in order.
sub tries {
    my ($s, $span) = @_;
    my @tries = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return @tries = sort { $a->{start} <=> $b->{start} } @tries;
}

# The values of a header in each request that an upstream had.
sub seen {
    my ($up, $header) = @_;
    return map { (EdgespanTest::Upstream::header_values($_, $header))[0] } $up->requests;
}

# What a balancer does with one member that is dead and one that is not.
sub balancer {
    my ($name, $scheme, $dead, $up) = @_;
    return <<"END";
<Proxy balancer://$name>
BalancerMember $scheme://$dead lbset=0 retry=600
BalancerMember $scheme://@{[$up->address]} lbset=1
</Proxy>
ProxyPass /$name/ balancer://$name/
END
}

# --- Tests ----------------------------------------------------------------

subtest 'failover' => sub {
    my $up = EdgespanTest::Upstream->new;
    my ($dead, $other, $third) = (dead(), dead(), dead());
    my $s = traced(workers => 1, vars => { OTHER => $other, THIRD => $third },
        http => balancer('mixed', 'http', $dead, $up) . <<'END')->start;
OtelPropagators tracecontext b3 jaeger
<Proxy balancer://none>
BalancerMember http://%%OTHER%%/1 retry=600
BalancerMember http://%%THIRD%%/2 retry=600
ProxySet forcerecovery=off
</Proxy>
ProxyPass /none/ balancer://none/
END
    my $span = get($s, '/mixed/x');
    my ($first, $second, @more) = tries($s, $span);
    is @more, 0, 'two tries';
    for ($first, $second) {
        is $_->{parent_span_id}, $span->{span_id}, 'below the SERVER span';
        is_deeply $_->{events}, [], 'without events';
    }
    is $first->{attrs}{'error.type'}, 'connection_failed', 'the first failed';
    is $first->{attrs}{'url.full'}, "http://$dead/x", 'at the dead member';
    is "$first->{attrs}{'network.peer.address'}:$first->{attrs}{'network.peer.port'}", $dead,
        'its address';
    is $first->{attrs}{'http.request.resend_count'}, undef, 'is no resend';
    is $first->{attrs}{'http.response.status_code'}, undef, 'has no status';
    is $second->{attrs}{'http.response.status_code'}, 200, 'the second was answered';
    is $second->{attrs}{'http.request.resend_count'}, 1, 'a resend';
    is $second->{attrs}{'network.peer.port'}, $up->port, 'by the other member';
    is $second->{status}{code}, 'UNSET', 'no error';
    cmp_ok $second->{start}, '>=', $first->{end}, 'one after the other';
    isnt $first->{span_id}, $second->{span_id}, 'each has its own id';

    my $id = "$span->{trace_id}-$second->{span_id}";
    is_deeply [ seen($up, 'traceparent') ], ["00-$id-03"], 'and the upstream sees its own';
    is_deeply [ seen($up, 'b3') ], ["$id-1"], 'in each format';
    my ($jaeger) = seen($up, 'uber-trace-id');
    like $jaeger, qr/\Q$second->{span_id}\E/, 'of several headers';
    unlike $jaeger, qr/\Q$first->{span_id}\E/, 'and no other';
    is $span->{record}{upstream}, $second->{span_id}, 'OTEL_UPSTREAM_SPAN_ID is the last';
    is $span->{record}{traceparent}, "00-$id-03", 'OTEL_TRACEPARENT, too';

    $span = get($s, '/none/x');
    my @tries = tries($s, $span);
    is_deeply [ map { $_->{attrs}{'error.type'} } @tries ], [ ('connection_failed') x 2 ],
        'all are dead';
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} } @tries ], [ undef, 1 ],
        'counted';
    is $span->{attrs}{'error.type'}, 503, 'an error';
    $span = get($s, '/none/x');
    is $span->{attrs}{'http.response.status_code'}, 503, 'no worker is left: 503';
    is tries($s, $span), 0, 'no try, no CLIENT span';
    lint($s);
    $s->finish;
};

subtest 'failover of other protocols' => sub {
    my %up = map { $_ => EdgespanTest::Upstream->new(protocol => $_) } qw(fastcgi scgi uwsgi);
    my %scheme = (fastcgi => 'fcgi', scgi => 'scgi', uwsgi => 'uwsgi');
    my $s = traced(workers => 1, extra => [qw(proxy_scgi proxy_uwsgi)],
        http => join '', map { balancer($_, $scheme{$_}, dead(), $up{$_}) } sort keys %up)->start;
    for my $protocol (sort keys %up) {
        my $span = get($s, "/$protocol/x");
        my ($first, $second) = tries($s, $span);
        is $first->{attrs}{'error.type'}, 'connection_failed', "$protocol: the first failed";
        is $second->{attrs}{'http.response.status_code'}, 200, 'the second did not';
        is $second->{attrs}{'http.request.resend_count'}, 1, 'a resend';
        my ($bytes) = $up{$protocol}->requests;
        my $params = $up{$protocol}->params($bytes);
        my $traceparent = "00-$span->{trace_id}-$second->{span_id}-03";
        is_deeply $params->{HTTP_TRACEPARENT}, [$traceparent], 'the upstream sees its id';
        is_deeply $params->{OTEL_TRACEPARENT}, [$traceparent], 'in the environment, too';
        is_deeply $params->{OTEL_UPSTREAM_SPAN_ID}, [ $second->{span_id} ], 'by itself, too';
    }
    lint($s);
    $s->finish;
};

subtest 'HTTP/2 tries again by itself' => sub {
    my $closes = EdgespanTest::Upstream->new(respond => sub {'close'});
    my $s = traced(extra => ['proxy_http2'], vars => { UP => $closes->address },
        http => 'ProxyPass /up/ h2c://%%UP%%/')->start;
    my $span = get($s, '/up/x');
    my @tries = tries($s, $span);
    is_deeply [ map { $_->{attrs}{'error.type'} } @tries ], [ ('no_response') x 2 ],
        'two tries without an answer';
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} } @tries ], [ undef, 1 ],
        'counted';
    cmp_ok $tries[1]{start}, '>=', $tries[0]{end}, 'one after the other';
    is $span->{record}{upstream}, $tries[1]{span_id}, 'OTEL_UPSTREAM_SPAN_ID is the last';
    lint($s);
    $s->finish;
};

subtest 'OtelUpstreamSpan Off' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(workers => 1, http => "OtelUpstreamSpan Off\n"
        . balancer('mixed', 'http', dead(), $up))->start;
    my $span = get($s, '/mixed/x');
    is tries($s, $span), 0, 'no CLIENT span';
    is_deeply [ seen($up, 'traceparent') ], ["00-$span->{trace_id}-$span->{span_id}-03"],
        'the upstream sees the SERVER span';
    cmp_ok $span->{attrs}{'edgespan.time.upstream_first_byte'}, '>', 0,
        'which says how long it waited';
    lint($s);
    $s->finish;
};

subtest 'kept at the end' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n";
    });
    my $s = traced(workers => 1, http => "OtelSampleRate 0\nOtelSampleKeep error\n"
        . balancer('mixed', 'http', dead(), $up))->start;
    my $span = get($s, '/mixed/x');
    my ($first, $second) = tries($s, $span);
    is $span->{attrs}{'edgespan.sampling.reason'}, 'error', 'an error is kept';
    is $first->{attrs}{'error.type'}, 'connection_failed', 'with the first try';
    is $second->{attrs}{'http.response.status_code'}, 500, 'and the second';
    is_deeply [ seen($up, 'traceparent') ], ["00-$span->{trace_id}-$second->{span_id}-02"],
        'whose id the upstream saw';
    lint($s);
    $s->finish;
};

subtest 'an ErrorDocument counts its own tries' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(workers => 1, vars => { DEAD => dead() },
        http => balancer('mixed', 'http', dead(), $up) . <<'END')->start;
<Location /broken/>
ErrorDocument 503 /mixed/sorry
ProxyPass http://%%DEAD%%/
</Location>
END
    my $span = get($s, '/broken/x');
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} } tries($s, $span) ],
        [ undef, undef, 1 ], 'one try, then two at another';
    is $span->{attrs}{'http.response.status_code'}, $span->{response}{status},
        'the status is what the client got';
    lint($s);
    $s->finish;
};

subtest 'TLS' => sub {
    my $certificates = EdgespanTest::Certificates->new;
    $certificates->authority('ca');
    $certificates->certificate('server', 'ca');
    my $plain = EdgespanTest::Httpd->new(module => 0)->start;
    my $silent = EdgespanTest::Upstream->new;
    my $back = traced(extra => [qw(ssl socache_shmcb)], trace => 'On',
        vars => { DIR => $certificates->dir }, http => <<'END')->start;
OtelServiceName back
SSLEngine On
SSLCertificateFile %%DIR%%/server.pem
SSLCertificateKeyFile %%DIR%%/server.key
END
    my $s = traced(workers => 1, extra => [qw(ssl socache_shmcb)],
        vars => { BACK => $back->port, PLAIN => $plain->port, SILENT => $silent->port,
            DIR => $certificates->dir },
        http => <<'END')->start;
SSLProxyEngine On
SSLProxyCACertificateFile %%DIR%%/ca.pem
ProxyPass /up/ https://localhost:%%BACK%%/
ProxyPass /plain/ https://localhost:%%PLAIN%%/
ProxyPass /silent/ https://127.0.0.1:%%SILENT%%/ timeout=1
END
    my ($client) = tries($s, get($s, '/up/'));
    my $times = sub { $client->{attrs}{"edgespan.time.upstream_$_[0]"} // 0 };
    is $client->{attrs}{'http.response.status_code'}, 200, 'answered';
    cmp_ok $times->('tls'), '>', 0, 'the handshake has its time';
    cmp_ok $times->('connect'), '>', 0, 'beside that of connecting';
    my $sum = 0;
    $sum += $times->($_) for qw(connect tls first_byte body);
    cmp_ok abs($sum - ($client->{end} - $client->{start}) / 1e9), '<', 1e-6,
        'all of them are the span';
    is $client->{attrs}{'edgespan.upstream.reused'}, undef, 'a new connection';
    ($client) = tries($s, get($s, '/up/'));
    ok $client->{attrs}{'edgespan.upstream.reused'}, 'which the next one uses, too';
    is $times->('tls') + $times->('connect'), 0, 'without connecting';

    ($client) = tries($s, get($s, '/plain/'));
    is $client->{attrs}{'error.type'}, 'connection_failed', 'no handshake: no connection';

    my $span = get($s, '/silent/');
    ($client) = tries($s, $span);
    like $client->{attrs}{'error.type'}, qr/^(?:timeout|connection_failed)$/,
        'a handshake that never ends';
    cmp_ok $span->{attrs}{'edgespan.time.upstream_connect'}, '>', 0.9, 'is no connection either';
    is $span->{attrs}{'edgespan.time.upstream_first_byte'}, undef, 'and no answer to wait for';
    lint($s);
    $_->finish for $s, $back, $plain;
};

subtest 'a page instead of an error' => sub {
    my $respond = sub { "HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\nno" };
    my %up = (http => EdgespanTest::Upstream->new(respond => $respond),
        uwsgi => EdgespanTest::Upstream->new(protocol => 'uwsgi', respond => $respond));
    my $s = traced(extra => ['proxy_uwsgi'], vars => { map { uc $_ => $up{$_}->address } keys %up },
        http => <<'END')->start;
ProxyErrorOverride On
ProxyPass /http/ http://%%HTTP%%/
ProxyPass /uwsgi/ uwsgi://%%UWSGI%%/
END
    for my $protocol (sort keys %up) {
        my ($client) = tries($s, get($s, "/$protocol/x"));
        is $client->{attrs}{'http.response.status_code'}, 404, "$protocol: the upstream's status";
        is $client->{attrs}{'error.type'}, 404, 'is the error';
    }
    lint($s);
    $s->finish;
};

subtest 'a client that is at fault' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(vars => { UP => $up->address },
        http => 'ProxyPass /up/ http://%%UP%%/')->start;
    my $record = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $s->port) or die;
        syswrite $sock, "POST /up/x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
        shutdown $sock, 1;
        local $/;
        return readline $sock;
    });
    my $span = span_of($s, $record);
    is $span->{attrs}{'http.response.status_code'}, 400, 'half a body';
    is tries($s, $span), 0, 'nobody was asked';
    lint($s);
    $s->finish;
};

done_testing;
