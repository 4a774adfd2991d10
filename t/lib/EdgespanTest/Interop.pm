package EdgespanTest::Interop;

# Both servers as gateways that export in any way, and what a collector has to
# show for what was requested of them.

use strict;
use warnings;

use Exporter 'import';
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

our @EXPORT = qw(@SERVERS exporter directive gateway random_id arrives refused);

our @SERVERS = qw(nginx httpd);

# --- Gateways -------------------------------------------------------------

my $upstream;

# It answers with the context that it got.
sub _upstream {
    return $upstream //= EdgespanTest::Nginx->new(module => 0, name => 'upstream',
        http => <<'END')->start;
    server {
        listen 127.0.0.1:%%PORT%%;
        location / { return 200 "$http_traceparent"; }
    }
END
}

# Options of an exporter, in order, in the words of either server.
sub exporter {
    my ($kind, @options) = @_;
    my $text = '';
    while (my ($name, $value) = splice @options, 0, 2) {
        $text .= $kind eq 'nginx' ? " $name $value;"
               : $name eq 'endpoint' ? " $value" : " $name=$value";
    }
    return $kind eq 'nginx' ? "otel_exporter {$text interval 20ms; }"
                            : "OtelExporter$text interval=20ms";
}

# A directive in the words of either server.
sub directive {
    my ($kind, $line) = @_;
    return "$line;" if $kind eq 'nginx';
    my ($name, $arguments) = $line =~ /^(\w+)(.*)/;
    return join('', map {ucfirst} split /_/, $name) . $arguments;
}

# A gateway of either kind with these lines for all of it, in front of an upstream
# (live) and of one that is not there (dead), or of those in {upstreams}. Further
# options are the server's.
sub gateway {
    my ($kind, $lines, %opt) = @_;
    my $upstreams = delete $opt{upstreams} // { live => '127.0.0.1:' . _upstream()->port,
        dead => '127.0.0.1:' . free_port() };
    if ($kind eq 'nginx') {
        $opt{allow} = _either($opt{allow}, qr/connect\(\) failed/);
        my $locations = join "\n", map {
            "location /$_/ { proxy_pass http://$upstreams->{$_}/; }" } sort keys %$upstreams;
        return EdgespanTest::Nginx->new(%opt, http => <<"END")->start;
    $lines
    otel_service_name Edge-nginx;
    otel_trace on;
    server {
        listen 127.0.0.1:%%PORT%%;
        $locations
    }
END
    }
    my $locations = join "\n", map { <<"END" } sort keys %$upstreams;
    <Location /$_/>
        OtelTrace On
        ProxyPass http://$upstreams->{$_}/
    </Location>
END
    return EdgespanTest::Httpd->new(%opt, http => <<"END")->start;
    $lines
    OtelServiceName Edge-httpd
    $locations
END
}

sub _either {
    my @patterns = grep {defined} @_;
    my $all = join '|', @patterns;
    return qr/$all/;
}

# --- Requests and what is seen of them --------------------------------------

sub random_id { return join '', map { sprintf '%02x', 1 + int rand 255 } 1 .. $_[0] }

# A request that continues a trace of its own; its spans by their kind.
sub _request {
    my ($gateway, $backend, $path) = @_;
    my ($trace, $parent) = (random_id(16), random_id(8));
    my $from = time;
    my $answer = http_get($gateway->port, $path,
        headers => [ [ traceparent => "00-$trace-$parent-01" ] ]);
    my @spans = $backend->wait_trace($trace, 2);
    my %of = map { $_->{kind} => $_ } @spans;
    is join(' ', sort map { $_->{kind} } @spans), 'CLIENT SERVER', "$path: its spans"
        or diag $gateway->error_log, explain \@spans;
    return ({ trace => $trace, parent => $parent, from => $from, to => time,
        answer => $answer }, \%of);
}

# Servers know their own times to a millisecond only.
sub _check_times {
    my ($request, $server, $client) = @_;
    my $slack = 0.005;
    ok $request->{from} - $slack <= $server->{from} && $server->{to} <= $request->{to} + $slack,
        'SERVER: when it was' or diag explain [ $request, $server ];
    ok $server->{from} - $slack <= $client->{from} && $client->{to} <= $server->{to} + $slack
        && $client->{from} <= $client->{to},
        'CLIENT: within SERVER' or diag explain [ $server, $client ];
    return;
}

# $lower: Zipkin keeps names in lower case.
sub _check_spans {
    my ($kind, $request, $of, %want) = @_;
    my ($server, $client) = @$of{qw(SERVER CLIENT)};
    return unless $server && $client;
    my $text = $want{lower} ? sub { lc $_[0] } : sub { $_[0] };
    is $_->{trace_id}, $request->{trace}, "$_->{kind}: trace" for $server, $client;
    is $server->{parent}, $request->{parent}, "SERVER: its parent is the caller";
    is $client->{parent}, $server->{span_id}, "CLIENT: its parent is SERVER";
    is $server->{name}, $text->("GET $want{path}*"), 'SERVER: name';
    is $client->{name}, $text->('GET'), 'CLIENT: name';
    for my $span ($server, $client) {
        is $span->{service}, $text->("Edge-$kind"), "$span->{kind}: service";
        is $span->{error}, $want{error}, "$span->{kind}: is its status Error?";
    }
    is $server->{attrs}{'url.path'}, "$want{path}x", 'SERVER: an attribute';
    is $server->{attrs}{'http.response.status_code'}, $request->{answer}{status},
        'SERVER: a number as attribute';
    _check_times($request, $server, $client);
    return;
}

# A gateway for the time of a test. One that does not start fails this test only.
sub _with_gateway {
    my ($what, $kind, $options, $code) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 2;
    return subtest "$kind, $what" => sub {
        my $gateway = eval { gateway($kind, exporter($kind, @$options)) };
        ok($gateway, 'the gateway starts') or return diag $@;
        $code->($gateway);
        $gateway->finish;
    };
}

# One test: the spans of a request that succeeds and of one that fails are in the
# backend as they have to be, if they leave with these options of an exporter.
sub arrives {
    my ($what, $kind, $options, $backend, %opt) = @_;
    return _with_gateway($what, $kind, $options, sub {
        my ($gateway) = @_;
        my ($request, $of) = _request($gateway, $backend, '/live/x');
        is $request->{answer}{status}, 200, '/live/: answered';
        _check_spans($kind, $request, $of, path => '/live/', error => 0, %opt);
        is $request->{answer}{body}, "00-$request->{trace}-$of->{CLIENT}{span_id}-01",
            'CLIENT is what the upstream took for its parent' if $of->{CLIENT};

        ($request, $of) = _request($gateway, $backend, '/dead/x');
        like $request->{answer}{status}, qr/^50[23]$/, '/dead/: answered';
        _check_spans($kind, $request, $of, path => '/dead/', error => 1, %opt);
    });
}

# One test: spans do not get there, and the error log of the gateway says why.
sub refused {
    my ($what, $kind, $options, $backend, $message) = @_;
    return _with_gateway($what, $kind, $options, sub {
        my ($gateway) = @_;
        my $trace = random_id(16);
        my $answer = http_get($gateway->port, '/live/x',
            headers => [ [ traceparent => "00-$trace-" . random_id(8) . '-01' ] ]);
        is $answer->{status}, 200, 'answered all the same';
        ok eval { $gateway->wait_log($message, 15) }, 'the log says why no span leaves'
            or diag $@, $gateway->error_log;
        is scalar(my @spans = $backend->spans($trace)), 0, 'none has arrived';
    });
}

1;
