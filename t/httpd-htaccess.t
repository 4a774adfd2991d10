# httpd: directives in .htaccess files, and what these may not say.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::HttpdTraced;
use EdgespanTest::Upstream;

# A directory per .htaccess.
sub served {
    my ($http, %htaccess) = @_;
    return traced(files => {
            key => 'k' x 32, secret => "s3cret\n",
            map {
                ("html/$_/.htaccess" => "$htaccess{$_}\n", "html/$_/x" => 'x')
            } keys %htaccess,
        },
        allow => qr/not allowed here|\.htaccess: /, http => <<"END")->start;
OtelHashKey key
<Directory %%PREFIX%%/html>
AllowOverride FileInfo
</Directory>
$http
END
}

subtest 'what a span says' => sub {
    my $s = served(<<'END',
OtelSpanAttr outer 1
<Location /inherits>
OtelSpanHeader request X-Outer
</Location>
END
        all => <<'END',
OtelRoute "/all/{file}"
OtelSpanAttr n "%{HTTP:X-N}" int
OtelSpanHeader request X-N
OtelBaggageAttr tenant
<If "%{HTTP:X-If} == 'yes'">
OtelSpanName "named %{REQUEST_METHOD}"
</If>
END
        inherits => 'OtelRoute /inherits');
    my @headers = ([ 'X-N' => 7 ], [ traceparent => '00-' . 'a' x 32 . '-' . 'b' x 16 . '-01' ],
        [ baggage => 'tenant=blue' ]);
    my $span = get($s, '/all/x', headers => \@headers);
    is $span->{name}, 'GET /all/{file}', 'a name by its route';
    is $span->{attrs}{'http.route'}, '/all/{file}', 'the route';
    is $span->{attrs}{n}, 7, 'an attribute';
    is_deeply $span->{attrs}{'http.request.header.x-n'}, ['7'], 'a header';
    is $span->{attrs}{tenant}, 'blue', 'baggage';
    ok !exists $span->{attrs}{outer}, "instead of the server's list";

    $span = get($s, '/all/x', headers => [ @headers, [ 'X-If' => 'yes' ] ]);
    is $span->{name}, 'named GET', 'by <If>';

    $span = get($s, '/inherits/x', headers => [ [ 'X-Outer' => 'o' ] ]);
    is $span->{attrs}{outer}, '1', 'what is not said is inherited';
    is_deeply $span->{attrs}{'http.request.header.x-outer'}, ['o'], 'of a <Location>, too';
    lint($s);
    $s->finish;
};

subtest 'tracing' => sub {
    my $s = served('', off => 'OtelTrace Off', on => 'OtelTrace On');
    my $record = recorded($s, sub { http_get($s->port, '/off/x') });
    is $record->{trace}, '-', 'may be switched off';
    is http_get($s->port, '/on/x')->{status}, 500, 'but not on';
    like $s->error_log, qr/OtelTrace: invalid value "On": here it is "Off"/, 'as the log says';
    $s->finish;
};

subtest "what is the administrator's" => sub {
    my %refused = (
        rate => 'OtelSampleRate 100%', sampler => 'OtelSampler always_on',
        target => 'OtelSampleTarget 100r/s', limit => 'OtelSampleLimit 5r/s',
        keep => 'OtelSampleKeep error', context => 'OtelTraceContext propagate',
        trust => 'OtelTrustContext On', redact => 'OtelRedact header=',
        exporter => 'OtelExporter http://127.0.0.1:1', service => 'OtelServiceName x',
        resource => 'OtelResourceAttr a b', override => 'OtelOverride x',
        hashkey => 'OtelHashKey key', semconv => 'OtelSemconv old', url => 'OtelTraceUrl /{trace_id}',
        upstream => 'OtelUpstreamSpan On', subrequest => 'OtelSubrequestSpan On',
        response => 'OtelResponseHeader traceresponse', propagators => 'OtelPropagators none',
        allow => 'OtelBaggageAllow none');
    my $s = served('', %refused);
    for my $name (sort keys %refused) {
        my ($directive) = split / /, $refused{$name};
        is http_get($s->port, "/$name/x")->{status}, 500, "$directive: refused";
        like $s->error_log, qr/$directive not allowed here/, 'as the log says';
    }
    $s->finish;
};

subtest 'a value that is refused' => sub {
    my $s = served('', key => 'OtelSpanAttr "" x', type => 'OtelSpanAttr a b date',
        hash => 'OtelSpanAttr a b HASH', side => 'OtelSpanHeader both X-A',
        file => q{OtelSpanAttr a "%{file:%{DOCUMENT_ROOT}/../secret}"});
    my %words = (
        key => 'OtelSpanAttr: ', type => 'OtelSpanAttr: .*"date"',
        hash => 'OtelSpanAttr: the type "hash" is not for a \.htaccess file',
        side => 'OtelSpanHeader: "both" is not "request" or "response"',
        file => 'OtelSpanAttr: invalid expression ');
    for my $name (sort keys %words) {
        is http_get($s->port, "/$name/x")->{status}, 500, "$name: an error";
        like $s->error_log, qr/$words{$name}/, 'that the log explains';
    }
    $s->finish;
};

subtest 'where no directive of the server asks for tracing' => sub {
    my $s = traced(trace => undef, files => {
            'html/x/.htaccess' => "OtelSpanAttr a b\nOtelRoute /x\nOtelTrace Off\n", 'html/x/x' => 'x' },
        http => "<Directory %%PREFIX%%/html>\nAllowOverride FileInfo\n</Directory>")->start;
    my $record = recorded($s, sub { http_get($s->port, '/x/x') });
    is $record->{status}, 200, 'it has no effect';
    is $record->{trace}, '-', 'and nothing is traced';
    $s->finish;
};

subtest 'where it sends requests' => sub {
    my $up = EdgespanTest::Upstream->new;
    my $s = traced(extra => [qw(rewrite negotiation)], vars => { UP => $up->address },
        files => {
            'html/proxied/.htaccess' => "RewriteEngine On\nOtelRoute /proxied\n"
                . "RewriteRule ^(.*) http://%%UP%%/\$1 [P]\n",
            'html/if/.htaccess' => "<If \"%{QUERY_STRING} == 'up'\">\n"
                . "SetHandler proxy:http://%%UP%%\nOtelSpanName proxied\n</If>\n",
            'html/if/x' => 'file', 'html/chosen/.htaccess' => "OtelRoute /chosen\n",
            'html/chosen/index.html.en' => 'en', 'html/chosen/index.html.de' => 'de',
        }, http => <<'END');
DirectoryIndex index
AddLanguage en .en
AddLanguage de .de
<Directory %%PREFIX%%/html>
AllowOverride All
Options +MultiViews
</Directory>
END
    $s->write_file("html/$_/.htaccess", $s->expand(slurp($s->prefix . "/html/$_/.htaccess")))
        for qw(proxied if);
    $s->start;
    my $tries = sub {
        my ($span) = @_;
        my @tries = $s->{collector}->spans(kind => 'CLIENT', trace_id => $span->{trace_id});
        is $_->{parent_span_id}, $span->{span_id}, 'below the request' for @tries;
        return scalar @tries;
    };
    my $span = get($s, '/proxied/a');
    is $tries->($span), 1, '[P]: a try';
    is $span->{name}, 'GET /proxied', 'with the name of the directory';
    $span = get($s, '/if/x?up');
    is $tries->($span), 1, 'SetHandler in <If>: a try';
    is $span->{name}, 'proxied', 'with the name that stands beside it';
    is $tries->($span = get($s, '/if/x')), 0, 'or a file';
    is $span->{response}{body}, 'file', 'as before';

    $span = get($s, '/chosen/', headers => [ [ 'Accept-Language' => 'de' ] ]);
    is $span->{response}{body}, 'de', 'an index by negotiation';
    is $span->{attrs}{'http.route'}, '/chosen', 'with the route of its directory';
    my @sub = $s->{collector}->spans(kind => 'INTERNAL', trace_id => $span->{trace_id});
    is @sub, 0, 'and no subrequest';
    my ($bytes) = $up->requests;
    like $bytes, qr/^traceparent: 00-/mi, 'upstreams see their spans';
    lint($s);
    $s->finish;
};

done_testing;
