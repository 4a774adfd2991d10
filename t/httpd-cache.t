# httpd: what mod_cache did, and whether an upstream was asked.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

my $TRACE       = '4bf92f3577b34da6a3ce929d0e0e4736';
my $TRACEPARENT = "00-$TRACE-00f067aa0ba902b7-01";

# What the upstream says at a path, each time.
my %answer = (
    fresh => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: max-age=60\r\n\r\nok\n",
    old   => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"a\"\r\nCache-Control: max-age=0\r\n\r\nok\n",
    never => "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nCache-Control: no-store\r\n\r\nok\n",
);

sub upstream {
    my (%opt) = @_;
    my %asked;
    return EdgespanTest::Upstream->new(respond => sub {
        my ($name) = $_[0] =~ m{^\w+ /(\w+)};
        if ($_[0] =~ /^If-None-Match:/mi) {
            return "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n" if $opt{breaks};
            return "HTTP/1.1 304 x\r\nETag: \"a\"\r\nCache-Control: max-age=0\r\n\r\n";
        }
        return $answer{$name};
    });
}

sub cached {
    my ($up, @more) = @_;
    return traced(workers => 1, extra => [qw(cache cache_disk include)],
        vars => { UP => $up->address }, @more, http => <<'END')->start;
ProxyPass /up/ http://%%UP%%/
CacheRoot %%PREFIX%%/data
CacheEnable disk /up/
CacheQuickHandler %%QUICK%%
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory %%PREFIX%%/html>
Options +Includes
</Directory>
END
}

sub clients {
    my ($s, $span) = @_;
    my @clients = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
    return map { $_->{attrs}{'http.response.status_code'} } @clients;
}

sub status { return $_[0]{attrs}{'edgespan.cache.status'} }

# --- Tests ----------------------------------------------------------------

for my $quick (qw(On Off)) {
    subtest "CacheQuickHandler $quick" => sub {
        my $up = upstream();
        my $s = cached($up, vars => { UP => $up->address, QUICK => $quick },
            files => { 'html/page.shtml' => qq{<!--#include virtual="/up/fresh" -->\n} });
        my @headers = (headers => [ [ traceparent => $TRACEPARENT ] ]);

        my $span = get($s, '/up/fresh');
        is status($span), 'MISS', 'at first';
        is_deeply [ clients($s, $span) ], [200], 'the upstream is asked';
        $span = get($s, '/up/fresh', @headers);
        is status($span), 'HIT', 'then';
        is $span->{response}{body}, "ok\n", 'served';
        is_deeply [ clients($s, $span) ], [], 'without an upstream';
        is $span->{trace_id}, $TRACE, 'a SERVER span below its caller';
        cmp_ok $span->{attrs}{'edgespan.time.client_download'}, '>', 0, 'with its times';

        $span = get($s, '/page.shtml');
        my ($sub) = $s->{collector}->spans(kind => 'INTERNAL', trace_id => $span->{trace_id});
        is status($sub), 'HIT', "a subrequest's";
        is $sub->{attrs}{'http.response.status_code'}, 200, 'with its status';
        is status($span), undef, "is not the page's";
        is_deeply [ clients($s, $span) ], [], 'and asks nobody';

        is status(get($s, '/up/old')), 'MISS', 'an entry that is old at once';
        $span = get($s, '/up/old');
        is status($span), 'REVALIDATED', 'is asked for again';
        is_deeply [ clients($s, $span) ], [304], 'and is the same';
        is $span->{attrs}{'http.response.status_code'}, 200, 'the client gets it';

        $span = get($s, '/up/fresh', method => 'POST', body => 'x');
        is status($span), 'INVALIDATED', 'a POST throws it away';
        is status(get($s, '/up/fresh')), 'MISS', 'so it is asked for again';
        is status(get($s, '/up/never')), 'MISS', 'what is not stored is a miss';
        is status(get($s, '/')), undef, 'where there is no cache is no status';
        lint($s);
        $s->finish;
    };
}

subtest 'an upstream that breaks' => sub {
    my $up = upstream(breaks => 1);
    my $s = cached($up, vars => { UP => $up->address, QUICK => 'On' });
    get($s, '/up/old');
    my $span = get($s, '/up/old');
    is status($span), 'STALE', 'the old entry serves';
    is_deeply [ clients($s, $span) ], [500], 'what the upstream said';
    is $span->{attrs}{'http.response.status_code'}, 200, 'what the client got';
    is $span->{response}{status}, 200, 'indeed';
    lint($s);
    $s->finish;
};

done_testing;
