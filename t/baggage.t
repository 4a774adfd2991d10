# Baggage: what variables and attributes show of it, and what passes the gateway.

use strict;
use warnings;
use utf8;

use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Otlp;

my $sent = \&EdgespanTest::Gateway::sent;

# The servers of the gateway, by number.
use constant {ANY => 1, SOME => 2, NONE => 3, WITHOUT => 4, STRANGERS => 5};
my @servers = (
    'otel_baggage_attr tenant user.id;',
    'otel_baggage_allow tenant userId;',
    'otel_baggage_allow none; otel_baggage_attr tenant;',
    'otel_propagators tracecontext; otel_baggage_attr tenant;',
    'otel_trust_context off; otel_baggage_attr tenant;',
);
my @proxied = (
    '/up/'      => '',
    '/other/'   => 'otel_baggage_attr "plan";',
    '/named/'   => 'otel_baggage_attr tenant; otel_span_attr tenant ours;',
    '/ignore/'  => 'otel_trace_context ignore; otel_baggage_attr tenant;',
    '/inject/'  => 'otel_trace_context inject; otel_baggage_attr tenant;',
    '/untraced/' => 'otel_trace off;',
);
my %log = map { $_ => {nginx => "\$otel_baggage_$_", httpd => '%{OTEL_BAGGAGE_' . uc . '}e'} }
    qw(tenant user_id userid plan);

my $LONG = 'x' x 1000;

# server, location, values of baggage; what the upstream gets, what is logged
# (of tenant, user_id, userid, plan), attributes of the SERVER span.
my @cases = (
    ['as it came', ANY, '/up/', ['tenant=acme;p=1 , user.id = Am%C3%A9lie,x=1'],
        'tenant=acme;p=1 , user.id = Am%C3%A9lie,x=1', ['acme', 'Amélie', '', ''],
        {tenant => 'acme', 'user.id' => 'Amélie'}],
    ['several headers', ANY, '/up/', ['tenant=a', 'plan=gold,userId=3'], qr/^tenant=a(?: & |, ?)plan=gold,userId=3$/,
        ['a', '', '3', 'gold'], {tenant => 'a', plan => undef}],
    ['the last of a key counts', ANY, '/up/', ['tenant=a,tenant=b'], 'tenant=a,tenant=b', ['b', '', '', ''],
        {tenant => 'b'}],
    ['keys are case-sensitive, variables are not', ANY, '/up/', ['Tenant=a'], 'Tenant=a', ['a', '', '', ''],
        {tenant => undef, Tenant => undef}],
    ['percent-encoding', ANY, '/up/', ['tenant=a%20b%2Cc%3Dd%25+%'], 'tenant=a%20b%2Cc%3Dd%25+%',
        ['a b,c=d%+%', '', '', ''], {tenant => 'a b,c=d%+%'}],
    ['no UTF-8', ANY, '/up/', ['tenant=a%FFb'], 'tenant=a%FFb', ["a\x{FFFD}b", '', '', ''],
        {tenant => "a\x{FFFD}b"}],
    ['what would end a line', ANY, '/up/', ['tenant=a%0D%0AX-Role:%09admin'], 'tenant=a%0D%0AX-Role:%09admin',
        ["a\x{FFFD}\x{FFFD}X-Role:\x{FFFD}admin", '', '', ''], {tenant => "a\x{FFFD}\x{FFFD}X-Role:\x{FFFD}admin"}],
    ['bad members are passed over', ANY, '/up/', ['=x,tenant,a b=c,tenant=ok'], '=x,tenant,a b=c,tenant=ok',
        ['ok', '', '', ''], {tenant => 'ok'}],
    ['an equals sign in a value', ANY, '/up/', ['tenant=a=b'], 'tenant=a=b', ['a=b', '', '', ''], {tenant => 'a=b'}],
    ['an empty value', ANY, '/up/', ['tenant='], 'tenant=', ['', '', '', ''], {tenant => ''}],
    ["a location's own keys", ANY, '/other/', ['tenant=a,plan=gold'], 'tenant=a,plan=gold', ['a', '', '', 'gold'],
        {tenant => undef, plan => 'gold'}],
    ["an attribute of the user's comes first", ANY, '/named/', ['tenant=theirs'], 'tenant=theirs',
        ['theirs', '', '', ''], {tenant => 'ours'}],
    ['ignored', ANY, '/ignore/', ['tenant=a'], 'tenant=a', ['', '', '', ''], {tenant => undef}],
    ['not traced', ANY, '/untraced/', ['tenant=a'], 'tenant=a', ['', '', '', '']],
    ['allowed', SOME, '/up/', ['a=1, tenant=acme;p=1;q ,b=2,userId=7', 'userId=8'],
        'tenant=acme;p=1;q,userId=7,userId=8', ['acme', '', 8, ''], {tenant => undef}],
    ['another key', SOME, '/up/', ['Tenant=a'], undef, ['a', '', '', '']],
    ['allowed, as it was encoded', SOME, '/up/', ['a=1,tenant=%41%2c'], 'tenant=%41%2c', ['A,', '', '', '']],
    ['nothing of it allowed', SOME, '/up/', ['a=1,b=2'], undef, ['', '', '', '']],
    ['a filter, where nothing is traced', SOME, '/untraced/', ['a=1'], 'a=1', ['', '', '', '']],
    ['none is allowed, but it is read', NONE, '/up/', ['tenant=a'], undef, ['a', '', '', ''], {tenant => 'a'}],
    ['is no propagator', WITHOUT, '/up/', ['tenant=a'], 'tenant=a', ['', '', '', ''], {tenant => undef}],
    ['of a stranger', STRANGERS, '/up/', ['tenant=a'], undef, ['', '', '', ''], {tenant => undef}],
    ['too many members', SOME, '/up/', [join ',', (map {"k$_=1"} 1 .. 63), 'tenant=in', 'userId=out'],
        'tenant=in', ['in', '', '', '']],
    ['too many bytes', SOME, '/up/', [map({"k$_=$LONG"} 1 .. 8), 'tenant=in', "userId=$LONG"],
        'tenant=in', ['in', '', '', '']],
    ['too much passes where nothing is filtered', ANY, '/up/', [join ',', (map {"k$_=1"} 1 .. 100), 'tenant=x'],
        qr/^k1=1,.*,k100=1,tenant=x$/, ['', '', '', ''], {tenant => undef}],
);

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, proxied => \@proxied, servers => \@servers, log => \%log,
        main => {nginx => 'large_client_header_buffers 8 32k;', httpd => 'LimitRequestFieldSize 32768'});
    my @asked = map {
        my (undef, $server, $path, $values) = @$_;
        $gateway->ask($path, server => $server, headers => [map { [baggage => $_] } @$values]);
    } @cases;
    $gateway->settle;
    for (0 .. $#cases) {
        my ($what, undef, undef, undef, $expected, $logged, $attributes) = @{$cases[$_]};
        subtest "$kind: $what" => sub {
            my $asked = $asked[$_];
            is $asked->{answer}{status}, 200, 'answered';
            my $got = $sent->($asked, 'baggage');
            ref $expected ? like($got, $expected, 'upstream') : is($got, $expected, 'upstream');
            my $record = $gateway->record($asked);
            my %logged;
            @logged{qw(tenant user_id userid plan)} = @$logged;
            for my $name (sort keys %logged) {
                # httpd logs what is not there as a dash.
                my $have = $record->{$name} =~ s/^-$//r;
                ref $logged{$name} ? like($have, $logged{$name}, $name) : is($have, $logged{$name}, $name);
            }
            my ($server) = $gateway->spans($asked);
            is $server->{attrs}{$_}, $attributes->{$_}, "attribute $_" for sort keys %{$attributes // {}};
        };
    }
    is_deeply [EdgespanTest::Otlp::lint([$gateway->collector->spans])], [], "$kind: well-formed spans";
    $gateway->finish;
}
done_testing;
