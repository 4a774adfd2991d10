# Whom to believe: what a stranger cannot do, what a partner can.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Load;
use EdgespanTest::Otlp;

use constant {
    TRACE  => '4bf92f3577b34da6a3ce929d0e0e4736',
    PARENT => '00f067aa0ba902b7',
    FLOOD  => 2000,
};

my $sent = \&EdgespanTest::Gateway::sent;

# Every header of a context, whether its format is configured or not.
my @context = (
    [traceparent => '00-' . TRACE . '-' . PARENT . '-01'], [tracestate => 'ot=rv:ffffffffffffff,a=1'],
    [baggage => 'user=mallory'], [b3 => TRACE . '-' . PARENT . '-d'], ['X-B3-TraceId' => TRACE],
    ['X-B3-SpanId' => PARENT], ['X-B3-ParentSpanId' => PARENT], ['X-B3-Sampled' => 1], ['X-B3-Flags' => 1],
    ['uber-trace-id' => TRACE . ':' . PARENT . ':0:3'], ['uberctx-user' => 'mallory'],
    ['jaeger-baggage' => 'user=mallory'],
    ['X-Amzn-Trace-Id' => 'Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=' . PARENT . ';Sampled=1'],
);
my @mixed_case = map { [ucfirst($_->[0]) =~ s/-(\w)/-\u$1/gr, $_->[1]] } @context;

# Those of the client's headers that the upstream got as they were.
sub passed {
    my ($asked) = @_;
    return [sort grep { my $name = $_; my $value = $sent->($asked, $name);
        defined $value && grep { lc $_->[0] eq $name && index($value, $_->[1]) >= 0 } @context }
        map { lc $_->[0] } @context];
}

my @names = sort map { lc $_->[0] } @context;

# The servers of the gateway, by number.
my @servers = (
    'otel_trust_context on;', 'otel_trust_context off;', 'otel_trust_context link;',
    {nginx => 'otel_trust_context $http_x_partner;',
     httpd => 'OtelTrustContext "expr=%{req:X-Partner}"'},
    {nginx => 'otel_trust_context $by_address;',
     httpd => q(OtelTrustContext "expr=%{REMOTE_ADDR}")},
    'otel_trust_context off; otel_propagators none;',
    'otel_trust_context link; otel_propagators jaeger b3; otel_trace_context propagate;',
);
use constant {ON => 1, OFF => 2, LINK => 3, BY_HEADER => 4, BY_ADDRESS => 5, NO_FORMAT => 6, OTHER_FORMATS => 7};

my @proxied = (
    '/up/' => '', '/off/' => 'otel_trace off;', '/never/' => 'otel_sample_rate 0;',
    '/part/' => 'otel_trace off; otel_trace_context propagate;',
    map { ("/$_/" => "otel_trace_context $_;") } qw(extract inject ignore),
);

# A caller that is not believed: a trace of our own, and nothing of his.
sub check_stranger {
    my ($gateway, $asked, $what, %opt) = @_;
    is_deeply passed($asked), [], "$what: none of the client's headers reaches the upstream"
        or diag explain $asked->{sent};
    is $sent->($asked, 'x-other'), 'stays', "$what: others do";
    my $record = $gateway->record($asked);
    my ($server, $client) = $gateway->spans($asked);
    isnt $record->{trace}, TRACE, "$what: a trace of our own";
    is $record->{parent} =~ s/^-$//r, '', "$what: without a parent";
    return if !$opt{spans};
    is $server->{parent_span_id}, '', "$what: the SERVER span is the root";
    is_deeply [map { $_->{trace_state} } $server, $client], ['', ''], "$what: no tracestate";
    my $link = {trace_id => TRACE, span_id => PARENT, trace_state => ''};
    is_deeply [map { my $l = $_; +{map { $_ => $l->{$_} } keys %$link} } @{$server->{links}}],
        $opt{link} ? [$link] : [], "$what: links of the SERVER span";
    is_deeply $client->{links}, [], "$what: none of the CLIENT span";
    is $record->{baggage} =~ s/^-$//r, '', "$what: no baggage";
    return;
}

sub modes {
    my ($gateway) = @_;
    my $ask = sub { my ($server, $path, @headers) = @_;
        $gateway->ask($path, server => $server, headers => [@headers, ['X-Other' => 'stays']]) };

    my $believed = $ask->(ON, '/up/', @context);
    my %stranger = (
        'off' => [$ask->(OFF, '/up/', @context), spans => 1],
        'off, odd case' => [$ask->(OFF, '/up/', @mixed_case), spans => 1],
        'off, where all is ignored' => [$ask->(OFF, '/ignore/', @context), spans => 1],
        'off, where it is only extracted' => [$ask->(OFF, '/extract/', @context), spans => 1],
        'off, where it is only injected' => [$ask->(OFF, '/inject/', @context), spans => 1],
        'off, where the rate is 0' => [$ask->(OFF, '/never/', @context)],
        'link' => [$ask->(LINK, '/up/', @context), spans => 1, link => 1],
        'link, where the rate is 0' => [$ask->(LINK, '/never/', @context)],
        'link, other formats' => [$ask->(OTHER_FORMATS, '/up/', @context), spans => 1, link => 1],
        'no header' => [$ask->(BY_HEADER, '/up/', @context), spans => 1],
        'a header that says off' => [$ask->(BY_HEADER, '/up/', @context, ['X-Partner' => 'off']), spans => 1],
        'a header that says anything' =>
            [$ask->(BY_HEADER, '/up/', @context, ['X-Partner' => 'yes']), spans => 1],
        'a header that says link' =>
            [$ask->(BY_HEADER, '/up/', @context, ['X-Partner' => 'link']), spans => 1, link => 1],
        'off, and no propagator' => [$ask->(NO_FORMAT, '/up/', @context), spans => 1],
    );
    my %untraced = map { $_->[0] => $ask->($_->[1], '/off/', @context) }
        ([off => OFF], [link => LINK], ['a header' => BY_HEADER], ['no propagator' => NO_FORMAT]);
    my $untraced_believed = $ask->(ON, '/off/', @context);
    my $unrecorded = $ask->(OFF, '/part/', @context);
    my $partner = $ask->(BY_HEADER, '/up/', @context, ['X-Partner' => 'on']);
    my $neighbour = $ask->(BY_ADDRESS, '/up/', @context);
    my $nobody = $ask->(LINK, '/up/');
    my $invalid = $ask->(LINK, '/up/', [traceparent => '00-' . TRACE . '-' . '0' x 16 . '-01']);
    my $wish = $ask->(OTHER_FORMATS, '/never/', [b3 => 1]);
    $gateway->settle;

    for ([on => $believed], ['a header that says on' => $partner]) {
        my ($what, $asked) = @$_;
        my ($server, $client) = $gateway->spans($asked);
        is_deeply [@$server{qw(trace_id parent_span_id)}], [TRACE, PARENT], "$what: the caller's trace goes on";
        is_deeply $server->{links}, [], "$what: no link";
        is $client && $client->{trace_id}, TRACE, "$what: the CLIENT span, too";
        is_deeply passed($asked), [grep { $_ ne 'traceparent' } @names], "$what: the rest passes";
        is $gateway->record($asked)->{baggage}, 'mallory', "$what: its baggage can be read";
    }
    for my $what (sort keys %stranger) {
        my ($asked, %opt) = @{$stranger{$what}};
        check_stranger($gateway, $asked, $what, %opt);
    }
    for my $what (sort keys %untraced) {
        is_deeply passed($untraced{$what}), [], "$what, not traced: nothing reaches the upstream";
        is_deeply [grep { my $n = $_->[0]; grep { $n eq $_ } @names } @{$untraced{$what}{sent}}], [],
            "$what, not traced: nothing of ours, either";
        is $sent->($untraced{$what}, 'x-other'), 'stays', "$what, not traced: other headers do";
    }
    is_deeply passed($untraced_believed), \@names, 'on, not traced: all passes as it came';
    is_deeply passed($unrecorded), [], 'off, takes part without recording';
    like $sent->($unrecorded, 'traceparent'), qr/^00-(?!@{[TRACE]})\w{32}-\w{16}-02$/, 'and says so';
    is_deeply [($gateway->spans($nobody))[0]{links}, ($gateway->spans($invalid))[0]{links}], [[], []],
        'link, and no valid caller: no link';
    is $sent->($_, 'traceparent') =~ /^00-(\w{32})-\w{16}-03$/ && $1, $gateway->record($_)->{trace},
        'an upstream gets our trace' for $nobody, $stranger{off}[0], $stranger{link}[0];
    is scalar(() = $gateway->spans($wish)), 0, 'a wish without ids is no wish, either';
    my ($server) = $gateway->spans($neighbour);
    is $server->{trace_id} eq TRACE ? 'on' : 'off', $gateway->kind eq 'nginx' ? 'on' : 'off',
        'by address (geo); an address itself is no word';
    return;
}

# Sampled parents by the thousand where our rate is 0.
sub flood {
    my ($gateway) = @_;
    for ([off => OFF], [link => LINK], [on => ON]) {
        my ($what, $n) = @$_;
        my $spans = sub { scalar(() = $gateway->collector->spans(attr => {'url.path' => '/flood/f'})) };
        my $before = $spans->();
        my $counted = $gateway->counted(FLOOD, sub {
            load($gateway->port($n), '/flood/f', FLOOD,
                headers => sub { [[traceparent => traceparent('01')], [tracestate => 'ot=rv:ffffffffffffff']] });
        });
        $gateway->settle;
        my $made = $spans->() - $before;
        if ($what eq 'on') {
            is_deeply [$counted, $made], [{parent_sampled => FLOOD}, FLOOD], 'on: who is believed is followed';
            next;
        }
        is_deeply [$counted, $made], [{ratio_unsampled => FLOOD}, 0], "$what: a flood makes no span";
    }
    return;
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, proxied => \@proxied,
        served => ['/flood/' => 'otel_sample_rate 0;'], servers => \@servers,
        main => {nginx => 'geo $by_address { default off; 127.0.0.0/8 on; }'},
        log => {baggage => {nginx => '$otel_baggage_user', httpd => '%{OTEL_BAGGAGE_USER}e'}});
    subtest "$kind: modes" => sub { modes($gateway) };
    subtest "$kind: a flood" => sub { flood($gateway) };
    is_deeply [EdgespanTest::Otlp::lint([$gateway->collector->spans])], [], "$kind: well-formed spans";
    $gateway->finish;
}
done_testing;
