# httpd: upstreams of FastCGI, SCGI, uwsgi and AJP, some of whose connections are made where
# no hook of httpd sees them.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my %SCHEME = (fastcgi => 'fcgi', scgi => 'scgi', uwsgi => 'uwsgi', ajp => 'ajp');
my @EXTRA = qw(proxy_scgi proxy_uwsgi proxy_ajp);

# The CLIENT spans of a request, in order.
sub tries {
    my ($s, $span) = @_;
    my @tries = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return @tries = sort { $a->{start} <=> $b->{start} } @tries;
}

# An answer of a script in each protocol.
sub answer {
    my ($protocol, $text) = @_;
    return $text if $protocol eq 'scgi';
    if ($protocol eq 'fastcgi') {
        return pack('C2 n2 C x', 1, 6, 1, length $text, 0) . $text
            . pack('C2 n2 C x N C x3', 1, 3, 1, 8, 0, 0, 0);
    }
    return $text =~ s{^Status: }{HTTP/1.1 }r;
}

sub proxied {
    my ($up) = @_;
    return join '', map {"ProxyPass /$_/ $SCHEME{$_}://@{[$up->{$_}->address]}/\n"} sort keys %$up;
}

# --- Tests ----------------------------------------------------------------

subtest 'an upstream that answers' => sub {
    my %up = map { $_ => EdgespanTest::Upstream->new(protocol => $_) } sort keys %SCHEME;
    my $s = traced(workers => 1, extra => \@EXTRA, http => proxied(\%up))->start;
    for my $protocol (sort keys %up) {
        my $span = get($s, "/$protocol/x");
        my ($client, @more) = tries($s, $span);
        is @more, 0, "$protocol: one try";
        is $client->{attrs}{'http.response.status_code'}, 200, 'answered';
        my $times = sub { $client->{attrs}{"edgespan.time.upstream_$_[0]"} };
        cmp_ok $times->('first_byte'), '>', 0, 'its first byte has a time';
        if ($protocol eq 'ajp') {
            is $times->('connect'), undef, 'connections may be kept: not known';
        }
        else {
            cmp_ok $times->('connect'), '>', 0, 'so has its connection';
        }
        my ($bytes) = $up{$protocol}->requests;
        like $bytes, qr/00-$span->{trace_id}-$client->{span_id}-03/, 'it sees its own span';
    }
    lint($s);
    $s->finish;
};

subtest 'an upstream that accepts and dies' => sub {
    my %up = map {
        $_ => EdgespanTest::Upstream->new(protocol => $_, respond => sub {'close'})
    } sort keys %SCHEME;
    my $s = traced(workers => 1, extra => \@EXTRA, http => proxied(\%up))->start;
    for my $protocol (sort keys %up) {
        my $span = get($s, "/$protocol/x");
        my ($client) = tries($s, $span);
        is $client->{attrs}{'error.type'}, 'no_response', "$protocol: it was there";
        cmp_ok $span->{attrs}{'edgespan.time.upstream_first_byte'}, '>', 0,
            'and was waited for';
    }
    lint($s);
    $s->finish;
};

subtest 'no upstream' => sub {
    my $s = traced(workers => 1, extra => \@EXTRA, http => join '', map {
        "ProxyPass /$_/ $SCHEME{$_}://127.0.0.1:@{[free_port()]}/\n"
    } sort keys %SCHEME)->start;
    for my $protocol (sort keys %SCHEME) {
        my $span = get($s, "/$protocol/x");
        my ($client) = tries($s, $span);
        is $client->{attrs}{'error.type'}, 'connection_failed', "$protocol: nobody was there";
        is $span->{attrs}{'edgespan.time.upstream_first_byte'}, undef, 'nor waited for';
        cmp_ok $span->{attrs}{'edgespan.time.upstream_connect'}, '>', 0, 'but to connect';
    }
    lint($s);
    $s->finish;
};

subtest 'a balancer goes on' => sub {
    my %dies = map {
        $_ => EdgespanTest::Upstream->new(protocol => $_, respond => sub {'close'})
    } qw(fastcgi ajp);
    my %up = map { $_ => EdgespanTest::Upstream->new(protocol => $_) } sort keys %dies;
    my $s = traced(workers => 1, extra => \@EXTRA, http => join '', map {<<"END"} sort keys %up)
<Proxy balancer://$_>
BalancerMember $SCHEME{$_}://@{[$dies{$_}->address]} lbset=0
BalancerMember $SCHEME{$_}://@{[$up{$_}->address]} lbset=1
</Proxy>
ProxyPass /$_/ balancer://$_/
END
        ->start;
    for my $protocol (sort keys %up) {
        my @tries = tries($s, get($s, "/$protocol/x"));
        is_deeply [ map { $_->{attrs}{'error.type'} } @tries ], [ 'no_response', undef ],
            "$protocol: the second answers";
        like +($up{$protocol}->requests)[0], qr/$tries[1]{span_id}/, 'and sees its own span';
    }
    lint($s);
    $s->finish;
};

subtest 'what the client has already' => sub {
    my $text = "Status: 200 OK\r\nETag: \"a\"\r\n\r\nok\n";
    my %up = map {
        my $answer = answer($_, $_ eq 'scgi' ? "ETag: \"a\"\r\n\r\nok\n" : $text);
        $_ => EdgespanTest::Upstream->new(protocol => $_, respond => sub {$answer});
    } qw(scgi fastcgi);
    my $s = traced(workers => 1, extra => \@EXTRA, http => proxied(\%up))->start;
    my $span = get($s, '/scgi/x', headers => [ [ 'If-None-Match', '"a"' ] ]);
    is $span->{attrs}{'http.response.status_code'}, 304, 'httpd itself says so';
    my ($client) = tries($s, $span);
    is $client->{attrs}{'error.type'}, undef, 'the upstream did not fail';
    is $client->{attrs}{'http.response.status_code'}, 200, 'it answered';
    lint($s);
    $s->finish;
};

subtest 'X-Sendfile and internal redirects of SCGI' => sub {
    my %answers = (file => "X-Sendfile: %s/html/small.txt\r\n\r\n",
        gone => "X-Sendfile: %s/html/none.txt\r\n\r\n", other => "Location: /up/y\r\n\r\n");
    my $scgi = EdgespanTest::Upstream->new(protocol => 'scgi', respond => sub {
        my ($name, $root) = $_[0] =~ m{REQUEST_URI\0/scgi/(\w+)\?([^\0]*)};
        return $answers{$name} =~ s/%s/$root/r;
    });
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(workers => 1, threads => 1, extra => \@EXTRA,
        files => { 'html/small.txt' => 'small' },
        vars => { SCGI => $scgi->address, UP => $up->address }, http => <<'END')->start;
ProxySCGISendfile On
ProxyPass /scgi/ scgi://%%SCGI%%/
ProxyPass /up/ http://%%UP%%/
<Location /up/quiet>
OtelTrace Off
</Location>
END
    my $root = $s->prefix;
    my $span = get($s, "/scgi/file?$root");
    is $span->{response}{body}, 'small', 'a file instead';
    my ($client) = tries($s, $span);
    is $client->{attrs}{'http.response.status_code'}, 200, 'the upstream answered';
    my ($sub) = $s->{collector}->spans(kind => 'INTERNAL', trace_id => $span->{trace_id});
    cmp_ok $sub->{start}, '>=', $client->{end}, 'before the file was sent';

    $span = get($s, "/scgi/gone?$root");
    is $span->{attrs}{'http.response.status_code'}, 500, 'a file that is not there';
    is tries($s, $span), 1, 'the try has ended';
    is http_get($s->port, '/up/quiet')->{status}, 200, 'what comes next has its own connections';

    $span = get($s, "/scgi/other?$root");
    my ($first, $second) = tries($s, $span);
    is $span->{attrs}{'http.response.status_code'}, 200, 'another place instead';
    cmp_ok $second->{start}, '>=', $first->{end}, 'one after the other';
    is $second->{attrs}{'url.full'}, "http://@{[$up->address]}/y", 'whose own try is counted';
    lint($s);
    $s->finish;
};

subtest 'an error page that another upstream makes' => sub {
    my $fastcgi = EdgespanTest::Upstream->new(protocol => 'fastcgi', respond => sub {
        answer('fastcgi', "Status: 404 no\r\n\r\nno");
    });
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(workers => 1, vars => { FASTCGI => $fastcgi->address, UP => $up->address },
        http => <<'END')->start;
ProxyErrorOverride On
ErrorDocument 404 /up/sorry
ProxyPass /fastcgi/ fcgi://%%FASTCGI%%/
ProxyPass /up/ http://%%UP%%/
END
    my $span = get($s, '/fastcgi/x');
    my ($first, $second) = tries($s, $span);
    is $span->{attrs}{'http.response.status_code'}, 404, 'an error';
    is $first->{attrs}{'http.response.status_code'}, 404, 'of the first upstream';
    is $second->{attrs}{'http.response.status_code'}, 200, 'the second made the page';
    cmp_ok $second->{start}, '>=', $first->{end}, 'one after the other';
    lint($s);
    $s->finish;
};

done_testing;
