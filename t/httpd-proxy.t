# httpd: the CLIENT span of requests that mod_proxy forwards.

use strict;
use warnings;

use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Tree;
use EdgespanTest::Upstream;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $TRACEPARENT = "00-$TRACE-00f067aa0ba902b7-01";

# The CLIENT spans of the trace of a SERVER span, which came before it.
sub clients {
    my ($s, $span) = @_;
    my @clients = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return @clients;
}

sub client {
    my ($s, $span) = @_;
    my @clients = clients($s, $span);
    is @clients, 1, 'one CLIENT span' or diag EdgespanTest::Tree::tree([ $s->{collector}->spans ]);
    return $clients[0];
}

# The traceparent of the last request that an upstream had.
sub seen {
    my ($up) = @_;
    my @all = $up->requests;
    my @values = EdgespanTest::Upstream::header_values($all[-1], 'traceparent');
    is @values, 1, 'one traceparent';
    return $values[0];
}

sub answer {
    my ($status, $body) = @_;
    return "HTTP/1.1 $status x\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

# An address where nobody listens.
sub dead { return '127.0.0.1:' . free_port() }

# --- Tests ----------------------------------------------------------------

subtest 'an answered request' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(vars => { UP => $up->address }, http => <<'END')->start;
ProxyPass /up/ http://%%UP%%/base/
<Location /quiet/>
OtelUpstreamSpan Off
ProxyPass http://%%UP%%/
</Location>
<Location /never/>
OtelSampleRate 0
ProxyPass http://%%UP%%/
</Location>
END
    my $span = get($s, '/up/x?q=1&sig=abc', headers => [
        [ traceparent => $TRACEPARENT ], [ tracestate => 'a=b' ] ]);
    my $client = client($s, $span);
    delete @{ $client->{attrs} }{ grep {/^edgespan\.time\./} keys %{ $client->{attrs} } };
    is_deeply $client->{attrs}, {
        'http.request.method' => 'GET', 'server.address' => '127.0.0.1',
        'server.port' => $up->port, 'network.peer.address' => '127.0.0.1',
        'network.peer.port' => $up->port, 'http.response.status_code' => 200,
        'url.full' => 'http://' . $up->address . '/base/x?q=1&sig=REDACTED',
    }, 'attributes';
    is $client->{name}, 'GET', 'name';
    is $client->{status}{code}, 'UNSET', 'status';
    is $client->{parent_span_id}, $span->{span_id}, 'below the SERVER span';
    is $client->{flags}, 0x101, 'flags';
    is $client->{trace_state}, 'a=b', 'tracestate';
    is_deeply $client->{events}, [], 'one try is no event';
    ok $client->{start} >= $span->{start} && $client->{end} <= $span->{end},
        'within the SERVER span';
    is seen($up), "00-$TRACE-$client->{span_id}-01", 'whose id the upstream sees';
    is $span->{record}{upstream}, $client->{span_id}, 'OTEL_UPSTREAM_SPAN_ID';
    is $span->{record}{traceparent}, seen($up), 'OTEL_TRACEPARENT';

    is client($s, get($s, '/up/x', method => 'POST', body => 'abc'))
        ->{attrs}{'http.request.method'}, 'POST', 'POST';

    $span = get($s, '/quiet/x');
    is clients($s, $span), 0, 'OtelUpstreamSpan Off: no CLIENT span';
    is seen($up), "00-$span->{trace_id}-$span->{span_id}-03",
        "the SERVER span's id is injected";

    my $record = recorded($s, sub { http_get($s->port, '/never/x') });
    like seen($up), qr/^00-$record->{trace}-$record->{upstream}-02$/,
        'not sampled: says so';
    is clients($s, get($s, '/')), 0, 'not proxied: no CLIENT span';
    lint($s);
    $s->finish;
};

subtest 'the peer of a name, with connections used again' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(workers => 1, vars => { UP => $up->port }, http => <<'END')->start;
ProxyPass /up/ http://localhost:%%UP%%/ max=1
ProxyPass /user/ http://user:word@localhost:%%UP%%/
ProxyPreserveHost On
END
    for my $n (1, 2) {
        my $client = client($s, get($s, '/up/x', host => 'front.example'));
        is $client->{attrs}{'network.peer.address'}, '127.0.0.1', "peer $n";
        is $client->{attrs}{'network.peer.port'}, $up->port, 'port';
        is $client->{attrs}{'server.address'}, 'localhost', 'name';
        is $client->{attrs}{'url.full'}, 'http://localhost:' . $up->port . '/x', 'URL';
    }
    my ($first, $second) = $up->connections;
    is $second, $first, 'on one connection';
    is client($s, get($s, '/user/x'))->{attrs}{'url.full'},
        'http://localhost:' . $up->port . '/x', 'credentials do not show';
    $s->finish;
};

subtest 'failures' => sub {
    my %how = (
        404 => sub { answer(404, 'no') }, 500 => sub { answer(500, 'oh') },
        503 => sub { answer(503, 'busy') },
        close => sub { ('', 'close') }, hang => sub {'hang'},
        short => sub { ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", 'close') },
        chunk => sub { ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", 'close') },
        nonsense => sub { ("nonsense\0\r\n\r\n", 'close') },
        bad => sub { ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n", 'close') },
    );
    my $up = EdgespanTest::Upstream->new(respond => sub {
        my ($how) = $_[0] =~ m{^GET /(\w+)};
        return $how{$how}->();
    });
    my $s = traced(vars => { UP => $up->address, DEAD => dead() }, http => <<'END')->start;
ProxyPass /up/ http://%%UP%%/ timeout=1
ProxyPass /dead/ http://%%DEAD%%/
ProxyPass /unknown/ http://name.invalid/
<Location /over/>
ProxyErrorOverride On
ProxyPass http://%%UP%%/
</Location>
END
    my $check = sub {
        my ($path, $status, $want, $client_error, $server_error) = @_;
        my $span = get($s, $path);
        my $client = client($s, $span);
        is $client->{attrs}{'http.response.status_code'}, $want, "$path: its status";
        is $client->{attrs}{'error.type'}, $client_error, 'its error';
        is $client->{status}{code}, defined $client_error ? 'ERROR' : 'UNSET', 'its code';
        is $span->{attrs}{'http.response.status_code'}, $status, 'our status';
        is $span->{attrs}{'error.type'}, $server_error, 'our error';
        return $client;
    };
    my $cut = 'upstream_response_truncated';
    $check->('/up/404', 404, 404, 404, undef);
    $check->('/up/500', 500, 500, 500, 500);
    $check->('/up/503', 503, 503, 503, 503);
    $check->('/over/404', 404, 404, 404, undef);
    $check->('/over/500', 500, 500, 500, 500);
    $check->('/up/close', 502, undef, 'no_response', 502);
    $check->('/up/hang', 502, undef, 'timeout', 502);
    $check->('/up/short', 200, 200, $cut, $cut);
    $check->('/up/chunk', 200, 200, $cut, $cut);
    $check->('/up/bad', 502, undef, 'no_response', 502);
    my $client = $check->('/dead/x', 503, undef, 'connection_failed', 503);
    is $client->{attrs}{'network.peer.address'}, '127.0.0.1',
        'a literal address is known without a connection';
    $check->('/unknown/x', 500, undef, '_OTHER', 500);

    # On a connection that the client used before, httpd answers nothing.
    my @old = records($s);
    http_raw($s->port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        . "GET /up/close HTTP/1.1\r\nHost: a\r\n\r\n");
    my @new = wait_for(sub { my @r = records($s); @r == @old + 2 && [@r] }, 5, 'records');
    my $span = span_of($s, $new[0][-1]);
    is $span->{attrs}{'http.response.status_code'}, undef, 'unanswered: no status';
    is $span->{attrs}{'error.type'}, 'no_response', 'unanswered: error';
    is client($s, $span)->{attrs}{'error.type'}, 'no_response', 'of the upstream, too';
    lint($s);
    $s->finish;
};

subtest 'a client that leaves' => sub {
    my $up = EdgespanTest::Upstream->new(respond => sub {
        ("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n",
            map { ('x' x 500_000, [ delay => 0.01 ]) } 1 .. 100);
    });
    my $s = traced(vars => { UP => $up->address },
        http => 'ProxyPass /up/ http://%%UP%%/')->start;
    my $record = recorded($s, sub {
        my $sock = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
            PeerPort => $s->port) or die;
        syswrite $sock, "GET /up/big HTTP/1.1\r\nHost: a\r\n\r\n";
        sysread $sock, my $some, 1000;
        setsockopt $sock, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
        close $sock;
    });
    my $span = span_of($s, $record);
    for ($span, client($s, $span)) {
        is $_->{attrs}{'edgespan.reason'}, 'client_closed_request', "$_->{kind}: reason";
        is $_->{status}{code}, 'UNSET', 'no error';
        is $_->{attrs}{'http.response.status_code'}, 200, 'status';
    }
    $s->finish;
};

subtest 'ways to a proxy' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(extra => ['include'], vars => { UP => $up->address },
        files => { 'html/dir/x.txt' => '', 'html/page.shtml' =>
            qq{<!--#include virtual="/up/one" -->\n<!--#include virtual="/up/two" -->\n},
            'html/h/x.api' => '' },
        http => <<'END')->start;
ProxyPass /up/ http://%%UP%%/
ProxyPassMatch ^/match/(.*)$ http://%%UP%%/$1
<Location /again/>
ErrorDocument 503 /up/sorry
ProxyPass http://127.0.0.1:1/
</Location>
RewriteEngine On
RewriteRule ^/rewrite/(.*) http://%%UP%%/$1 [P]
<Directory %%PREFIX%%/html/dir>
RewriteEngine On
RewriteRule ^(.+)$ http://%%UP%%/in-directory [P]
</Directory>
<Directory %%PREFIX%%/html/h>
<Files *.api>
SetHandler "proxy:http://%%UP%%"
</Files>
DirectoryIndex x.api
</Directory>
ProxyRequests On
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory %%PREFIX%%/html>
Options +Includes
</Directory>
END
    for my $path (qw(/match/x /rewrite/x /dir/x.txt /h/x.api /h/), 'http://' . $up->address . '/f') {
        my $span = get($s, $path);
        is $span->{attrs}{'http.response.status_code'}, 200, $path;
        is seen($up), "00-$span->{trace_id}-" . client($s, $span)->{span_id} . '-03', 'injected';
    }

    my $span = get($s, '/again/x');
    my @clients = sort { $a->{start} cmp $b->{start} } clients($s, $span);
    is @clients, 2, 'an ErrorDocument that is proxied, too';
    is $clients[0]{attrs}{'error.type'}, 'connection_failed', 'the first fails';
    is $clients[1]{attrs}{'url.full'}, 'http://' . $up->address . '/sorry', 'the second is it';
    is seen($up), "00-$span->{trace_id}-$clients[1]{span_id}-03", 'with its own id';

    my $n = $up->requests;
    $span = get($s, '/page.shtml');
    is $span->{response}{body}, "ok\n\nok\n\n", 'two included responses';
    @clients = clients($s, $span);
    is_deeply [ map { (EdgespanTest::Upstream::header_values($_, 'traceparent'))[0] }
            ($up->requests)[ $n, $n + 1 ] ],
        [ map {"00-$_->{trace_id}-$_->{span_id}-03"} @clients ],
        'each subrequest has its own CLIENT span';
    lint($s);
    $s->finish;
};

subtest 'other protocols' => sub {
    my $dir = tmpdir();
    chmod 0777, $dir;
    my %up = map { $_ => EdgespanTest::Upstream->new(protocol => $_) } qw(fastcgi scgi uwsgi);
    $up{unix} = EdgespanTest::Upstream->new(unix => "$dir/up.sock");
    $up{php} = EdgespanTest::Upstream->new(protocol => 'fastcgi', unix => "$dir/php.sock");
    my $s = traced(extra => [qw(proxy_scgi proxy_uwsgi)], files => { 'html/x.php' => '' },
        vars => { DIR => $dir, map { uc $_ => $up{$_}->address } keys %up },
        http => <<'END')->start;
ProxyPass /fastcgi/ fcgi://%%FASTCGI%%/
ProxyPass /scgi/ scgi://%%SCGI%%/
ProxyPass /uwsgi/ uwsgi://%%UWSGI%%/
ProxyPass /unix/ unix:%%DIR%%/up.sock|http://localhost/
<FilesMatch \.php$>
SetHandler "proxy:unix:%%DIR%%/php.sock|fcgi://localhost"
</FilesMatch>
END
    for my $protocol (qw(fastcgi scgi uwsgi)) {
        my $span = get($s, "/$protocol/x", headers => [ [ tracestate => 'a=b' ] ]);
        my $client = client($s, $span);
        is $client->{attrs}{'http.response.status_code'}, 200, $protocol;
        is $client->{attrs}{'server.port'}, $up{$protocol}->port, 'port';
        is $client->{attrs}{'network.peer.port'}, $up{$protocol}->port, 'peer';
        my ($bytes) = $up{$protocol}->requests;
        my $params = $up{$protocol}->params($bytes);
        is_deeply $params->{HTTP_TRACEPARENT},
            ["00-$span->{trace_id}-$client->{span_id}-03"], 'injected';
        is $params->{HTTP_TRACESTATE}, undef, 'no stale tracestate';
    }
    my $client = client($s, get($s, '/unix/x'));
    is $client->{attrs}{'network.peer.address'}, "$dir/up.sock", 'a unix socket';
    is $client->{attrs}{'network.peer.port'}, undef, 'without a port';
    $client = client($s, get($s, '/x.php'));
    is $client->{attrs}{'network.peer.address'}, "$dir/php.sock", 'PHP-FPM by SetHandler';
    is $client->{attrs}{'http.response.status_code'}, 200, 'answered';
    lint($s);
    $s->finish;
};

subtest 'HTTP/2 to the upstream' => sub {
    my $back = traced(http2 => 1, http => 'OtelServiceName back')->start;
    my $s = traced(extra => ['proxy_http2'], vars => { BACK => '127.0.0.1:' . $back->port },
        http => 'ProxyPass /up/ h2c://%%BACK%%/')->start;
    my $span = get($s, '/up/none');
    my $client = client($s, $span);
    is $client->{attrs}{'url.full'}, 'http://127.0.0.1:' . $back->port . '/none', 'URL';
    is $client->{attrs}{'network.protocol.version'}, 2, 'version';
    is $client->{attrs}{'http.response.status_code'}, 404, 'status';
    my ($inner) = $back->{collector}->wait_spans(1, 5, trace_id => $span->{trace_id});
    is $inner->{parent_span_id}, $client->{span_id}, 'the next server is below';
    $_->finish for $s, $back;
};

subtest 'whatever is loaded, in whatever order' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $c = EdgespanTest::Collector->new;
    my $load = sub { join '', map {"LoadModule ${_}_module %%SYSTEM_MODULES%%/mod_$_.so\n"} @_ };
    my $ours = 'LoadModule edgespan_module ' . module_httpd() . "\n";
    my $user = join "\n", EdgespanTest::Httpd->new(conf => '')->_user_lines;
    my $base = "ServerRoot %%PREFIX%%\nServerName localhost\nPidFile %%PREFIX%%/run/server.pid\n"
        . "ErrorLog %%PREFIX%%/error.log\nDefaultRuntimeDir %%PREFIX%%/run\n$user\nListen 127.0.0.1:%%PORT%%\n"
        . "OtelExporter %%COLLECTOR%% interval=20ms\nOtelTrace On\n";
    my %vars = (vars => { COLLECTOR => $c->url, UP => $up->address });

    my $first = EdgespanTest::Httpd->new(%vars, conf => $ours
        . $load->(qw(mpm_event authz_core proxy proxy_http)) . $base
        . "ProxyPass / http://%%UP%%/\n");
    $first->start;
    is http_get($first->port, '/x')->{status}, 200, 'before mod_proxy: proxied';
    my ($client) = $c->wait_spans(1, 5, kind => 'CLIENT');
    is seen($up), "00-$client->{trace_id}-$client->{span_id}-03", 'CLIENT span';
    $first->finish;

    my $without = EdgespanTest::Httpd->new(%vars,
        conf => $ours . $load->(qw(mpm_event authz_core)) . $base);
    $without->start;
    is http_get($without->port, '/x')->{status}, 404, 'without mod_proxy: served';
    my ($span) = $c->wait_spans(1, 5, attr => { 'http.response.status_code' => 404 });
    is $span->{kind}, 'SERVER', 'SERVER span';
    $without->finish;
};

done_testing;
