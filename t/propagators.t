# Every format in, every format out: a gateway of each ordered pair of formats gets
# each form of the first one, alone and among all others, and sends both on.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Otlp;

my @FORMATS = qw(tracecontext b3 b3multi jaeger xray);

# The headers of each, for whatever reads it: b3 and b3multi read both forms.
my %HEADERS = (
    tracecontext => ['traceparent'],
    b3           => [qw(b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags)],
    jaeger       => ['uber-trace-id'],
    xray         => ['x-amzn-trace-id'],
);
$HEADERS{b3multi} = $HEADERS{b3};

sub dashed { return join '-', '1', unpack 'a8 a24', $_[0] }

# What a caller sends in each format: trace and span as it writes them, and what it
# wishes: 1, 0, d (debug) or nothing.
my %GIVEN = (
    tracecontext => sub { my ($t, $s, $wish) = @_; [[traceparent => "00-$t-$s-0$wish"]] },
    b3      => sub { my ($t, $s, $wish) = @_;
        [[b3 => "$t-$s" . (defined $wish ? "-$wish-00000000000000aa" : '')]] },
    b3multi => sub { my ($t, $s, $wish) = @_;
        [['X-B3-TraceId' => $t], ['X-B3-SpanId' => $s], ['X-B3-ParentSpanId' => '00000000000000aa'],
            !defined $wish ? () : $wish eq 'd' ? ['X-B3-Flags' => 1] : ['X-B3-Sampled' => $wish]] },
    jaeger  => sub { my ($t, $s, $wish) = @_;
        [['uber-trace-id' => "$t:$s:aa:" . {0 => 0, 1 => 1, d => 3}->{$wish}]] },
    xray    => sub { my ($t, $s, $wish) = @_;
        [['X-Amzn-Trace-Id' => 'Self=1-0;Root=' . dashed($t) . ";Parent=$s"
            . (defined $wish ? ";Sampled=$wish" : '')]] },
);

# And what an upstream then has to get: {header => value}.
my %SENT = (
    tracecontext => sub { my ($t, $s, $wish, $random) = @_;
        {traceparent => "00-$t-$s-0" . (($wish ? 1 : 0) | ($random ? 2 : 0))} },
    b3      => sub { my ($t, $s, $wish) = @_; {b3 => "$t-$s-$wish"} },
    b3multi => sub { my ($t, $s, $wish) = @_;
        {'x-b3-traceid' => $t, 'x-b3-spanid' => $s,
            $wish eq 'd' ? ('x-b3-flags' => 1) : ('x-b3-sampled' => $wish)} },
    jaeger  => sub { my ($t, $s, $wish) = @_;
        {'uber-trace-id' => "$t:$s:0:" . {0 => 0, 1 => 1, d => 3}->{$wish}} },
    xray    => sub { my ($t, $s, $wish) = @_;
        {'x-amzn-trace-id' => 'Root=' . dashed($t) . ";Parent=$s;Sampled=" . ($wish ? 1 : 0)} },
);

# The span id that an upstream got, in whichever format.
my %SPAN_SENT = (
    tracecontext => [traceparent => qr/^00-\w{32}-(\w{16})-/],
    b3           => [b3 => qr/^\w{32}-(\w{16})-/],
    b3multi      => ['x-b3-spanid' => qr/^(\w{16})$/],
    jaeger       => ['uber-trace-id' => qr/^\w{32}:(\w{16}):/],
    xray         => ['x-amzn-trace-id' => qr/;Parent=(\w{16});/],
);

my $ids = 0;
sub new_trace { return sprintf '5eed5eed00000000%016x', 0xa000 + ++$ids }
sub new_span  { return sprintf '%016x', 0xb000 + ++$ids }

sub contexts {
    my ($asked) = @_;
    return {map { my $value = EdgespanTest::Gateway::sent($asked, $_); defined $value ? ($_ => $value) : () }
        map {@$_} @HEADERS{qw(tracecontext b3 jaeger xray)}};
}

# What the upstream got is what these formats say, of one trace and one span, and
# what the client sent in other formats. The spans are the caller's children.
sub check {
    my ($gateway, $asked, $list, $expected) = @_;
    my ($trace, $parent, $wish, $random, $others) = @$expected{qw(trace parent wish random others)};
    my ($header, $id) = @{$SPAN_SENT{$list->[0]}};
    my ($span) = (EdgespanTest::Gateway::sent($asked, $header) // '') =~ $id;
    my %sent = (%{$others // {}}, map { %{$SENT{$_}->($trace, $span // '(none)', $wish, $random)} } @$list);
    is_deeply contexts($asked), \%sent, "what the upstream got of @$list" or return;

    my ($server, $client, @more) = $gateway->spans($asked);
    if (!$wish) {
        is $server, undef, 'no span' or return;
        is $gateway->record($asked)->{decision}, 'drop parent', 'because of the caller' or return;
        return 1;
    }
    is_deeply [map { $_ && $_->{kind} } $server, $client, @more], ['SERVER', 'CLIENT'], 'two spans' or return;
    is_deeply [@$server{qw(trace_id parent_span_id)}], [$trace, $parent], 'SERVER continues' or return;
    is_deeply [@$client{qw(trace_id span_id parent_span_id)}], [$trace, $span, $server->{span_id}],
        'CLIENT is what the upstream continues' or return;
    is $gateway->record($asked)->{parent}, $parent, 'the log names the caller' or return;
    return 1;
}

# Forms of a format: [trace as it is written, trace, wish].
sub forms {
    my ($format) = @_;
    my @wishes = $format =~ /^(?:b3|b3multi|jaeger)$/ ? (0, 1, 'd') : (0, 1);
    my @forms = map { my $trace = new_trace(); [$trace, $trace, $_] } @wishes;
    return @forms if $format !~ /^(?:b3|b3multi|jaeger)$/;
    return @forms, map { my $trace = substr new_trace(), 16; [$trace, '0' x 16 . $trace, $_] } 0, 1;
}

my @lists = map { my $first = $_; [$first], map { [$first, $_] } grep { $_ ne $first } @FORMATS } @FORMATS;

sub pairs {
    my ($gateway) = @_;
    my @asked;
    for my $n (1 .. @lists) {
        my $list = $lists[$n - 1];
        for my $form (forms($list->[0])) {
            my ($written, $trace, $wish) = @$form;
            my $parent = new_span();
            push @asked, [$list, "$wish, " . length($written) * 4 . ' bits',
                $gateway->ask('/up/', server => $n, headers => $GIVEN{$list->[0]}->($written, $parent, $wish)),
                {trace => $trace, parent => $parent, wish => $wish}];
        }

        # All formats at once. The single header of B3 comes before the others.
        my %all = map { $_ => [new_trace(), new_span()] } @FORMATS;
        my $wins = $list->[0] eq 'b3multi' ? 'b3' : $list->[0];
        my %ours = map { $_ => 1 } map { @{$HEADERS{$_}} } @$list;
        my @given = map { @{$GIVEN{$_}->(@{$all{$_}}, 1)} } @FORMATS;
        my $asked = $gateway->ask('/up/', server => $n, headers => \@given);
        push @asked, [$list, 'among all others', $asked,
            {trace => $all{$wins}[0], parent => $all{$wins}[1], wish => 1,
                others => {map { $ours{lc $_->[0]} ? () : (lc $_->[0] => $_->[1]) } @given}}];
    }
    $gateway->settle;
    for (@asked) {
        my ($list, $form, $asked, $expected) = @$_;
        subtest "@$list: $form" => sub {
            check($gateway, $asked, $list, $expected)
                or diag explain [$asked->{sent}, $gateway->record($asked)];
        };
    }
    return;
}

# Decisions and traces without a span, and what only some formats know.
sub partial {
    my ($gateway) = @_;
    my ($b3, $xray, $none, $default, $all) = 1 .. 5;
    my $ask = sub { my ($server, $path, @headers) = @_;
        $gateway->ask($path, server => $server, headers => \@headers) };
    my $sent = \&EdgespanTest::Gateway::sent;
    my ($trace, $parent) = (new_trace(), new_span());

    my %wish = map { $_->[0] => [$ask->($b3, '/up/', [@$_[1, 2]]), $_->[3]] } (
        ['b3: 0', b3 => 0, 0], ['b3: 1', b3 => 1, 1], ['b3: d', b3 => 'd', 'd'],
        ['X-B3-Sampled: 0', 'X-B3-Sampled' => 0, 0], ['X-B3-Sampled: 1', 'X-B3-Sampled' => 1, 1],
        ['X-B3-Flags: 1', 'X-B3-Flags' => 1, 'd']);
    my %deferred = (
        'b3: two fields' => [$b3, [b3 => "$trace-$parent"]],
        'X-B3 without a state' => [$b3, ['X-B3-TraceId' => $trace], ['X-B3-SpanId' => $parent]],
        'xray: Sampled=?' => [$xray, ['X-Amzn-Trace-Id' => 'Root=' . dashed($trace) . ";Parent=$parent;Sampled=?"]],
        'xray: no Sampled' => [$xray, ['X-Amzn-Trace-Id' => 'Root=' . dashed($trace) . ";Parent=$parent"]],
        'xray: Root alone' => [$xray, ['X-Amzn-Trace-Id' => 'Root=' . dashed($trace)]],
    );
    for (values %deferred) {
        my ($server, @headers) = @$_;
        push @$_, $ask->($server, '/up/', @headers), $ask->($server, '/never/', @headers);
    }
    my $begun = $ask->($xray, '/up/');
    my $unasked = $ask->($none, '/up/', [traceparent => "00-$trace-$parent-01"], [tracestate => 'a=1'],
        [baggage => 'k=v'], [b3 => 0]);
    my $usual = $ask->($default, '/up/', [traceparent => "00-$trace-$parent-03"], [tracestate => 'a=1'],
        [baggage => 'k=v;p, l=w'], [b3 => 0]);
    my $without = $ask->($b3, '/up/', [b3 => "$trace-$parent-1"], [baggage => 'k=v'],
        [tracestate => 'a=1']);
    my $last = $ask->($all, '/up/', [b3 => 0], [traceparent => '00-x'],
        ['X-Amzn-Trace-Id' => 'Root=' . dashed($trace) . ";Parent=$parent;Sampled=1"]);
    my $twice = $ask->($all, '/up/', [b3 => "$trace-$parent-1"], [B3 => "$trace-${\new_span()}-1"],
        ['uber-trace-id' => "$trace:$parent:0:1"], ['Uber-Trace-Id' => "$trace:${\new_span()}:0:1"]);
    $gateway->settle;

    subtest 'a decision without ids' => sub {
        for my $name (sort keys %wish) {
            my ($asked, $wish) = @{$wish{$name}};
            my ($server, @more) = $gateway->spans($asked);
            like $sent->($asked, 'b3'), qr/^[0-9a-f]{32}-[0-9a-f]{16}-$wish$/, "$name is sent on";
            is $server && $server->{parent_span_id}, $wish ? '' : undef, "$name: a root, or none";
            is $gateway->record($asked)->{decision}, $wish ? 'parent' : 'drop parent', "$name decided";
            is $sent->($asked, $_), undef, "$name: no $_" for grep { $_ ne 'b3' } @{$HEADERS{b3}};
        }
    };
    subtest 'a decision that is left to us' => sub {
        for my $name (sort keys %deferred) {
            my ($asked, $never) = @{$deferred{$name}}[-2, -1];
            my ($server) = $gateway->spans($asked);
            is $server && $server->{trace_id}, $trace, "$name: our rate is 1";
            is $server && $server->{parent_span_id}, $name =~ /alone/ ? '' : $parent, "$name: parent";
            like $sent->($asked, $_) // '-', qr/^-$|\b1$/, "$name: $_" for qw(b3 x-amzn-trace-id);
            is scalar(() = $gateway->spans($never)), 0, "$name: our rate is 0";
            is $gateway->record($never)->{trace}, $trace, "$name: and the trace goes on";
            like $gateway->record($never)->{decision}, qr/^drop ratio=0\b/, "$name: by our rate";
            like $sent->($never, $_) // '-', qr/^-$|\b0$/, "$name: $_ says so" for qw(b3 x-amzn-trace-id);
        }
    };
    my $record = $gateway->record($begun);
    cmp_ok abs(time - hex substr $record->{trace}, 0, 8), '<', 60, 'xray: the id of a new trace has the time';
    is $sent->($begun, 'x-amzn-trace-id') =~ s/Parent=\w+/Parent=/r,
        'Root=' . dashed($record->{trace}) . ';Parent=;Sampled=1', 'and begins with it there';
    is_deeply [map { $sent->($unasked, $_) } qw(traceparent tracestate baggage b3)],
        ["00-$trace-$parent-01", 'a=1', 'k=v', '0'], 'none: nothing is touched';
    isnt $gateway->record($unasked)->{trace}, $trace, 'and nothing read';
    is scalar(() = $gateway->spans($unasked)), 2, 'but traced';
    like $sent->($usual, 'traceparent'), qr/^00-$trace-(?!$parent)\w{16}-03$/, 'tracecontext is usual';
    is_deeply [map { $sent->($usual, $_) } qw(tracestate baggage b3)],
        ['a=1', 'k=v;p, l=w', '0'], 'with baggage, and without b3';
    is_deeply [map { $sent->($without, $_) } qw(baggage tracestate)], ['k=v', 'a=1'],
        'what is not configured passes';
    my ($server) = $gateway->spans($last);
    is $server && $server->{parent_span_id}, $parent, 'who has ids is believed before who has a wish';
    is $gateway->record($twice)->{parent}, $parent, 'of two the first counts';
    for my $header (qw(traceparent b3 x-b3-traceid uber-trace-id x-amzn-trace-id)) {
        is scalar(() = grep { $_->[0] eq $header } @{$twice->{sent}}), 1, "one $header";
    }
    return;
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $never = 'otel_sample_rate 0;';
    my $gateway = EdgespanTest::Gateway->new($kind, proxied => ['/up/' => ''],
        servers => [map {"otel_propagators @$_;"} @lists]);
    subtest "$kind: pairs" => sub { pairs($gateway) };
    is_deeply [EdgespanTest::Otlp::lint([$gateway->collector->spans])], [], "$kind: well-formed spans";
    $gateway->finish;

    $gateway = EdgespanTest::Gateway->new($kind, proxied => ['/up/' => '', '/never/' => $never],
        servers => ['otel_propagators b3;', 'otel_propagators xray;', 'otel_propagators none;', '',
            "otel_propagators @FORMATS baggage;"]);
    subtest "$kind: parts of a context" => sub { partial($gateway) };
    $gateway->finish;

    # The environment counts where no directive does.
    $gateway = EdgespanTest::Gateway->new($kind, proxied => ['/up/' => ''],
        env => {OTEL_PROPAGATORS => 'jaeger,b3multi'}, servers => ['', 'otel_propagators b3;']);
    my @headers = (['uber-trace-id' => '1:2:0:1'], [b3 => '0']);
    my $jaeger = $gateway->ask('/up/', headers => \@headers);
    my $b3 = $gateway->ask('/up/', server => 2, headers => \@headers);
    is_deeply [sort keys %{contexts($jaeger)}],
        [qw(uber-trace-id x-b3-sampled x-b3-spanid x-b3-traceid)], "$kind: OTEL_PROPAGATORS";
    like EdgespanTest::Gateway::sent($jaeger, 'uber-trace-id'), qr/^0{31}1:/, "$kind: in its order";
    is EdgespanTest::Gateway::sent($b3, 'uber-trace-id'), '1:2:0:1', "$kind: a directive replaces it";
    $gateway->finish;
}
done_testing;
