# What nginx -t says of a configuration.
package EdgespanTest::NginxConfig;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use EdgespanTest;
use EdgespanTest::Nginx;

our @EXPORT = qw(tester refused accepted $OK $TLS);

# The inside of exporters that have all they need; %%OK%% is the first.
our $OK = 'endpoint http://127.0.0.1:4318/v1/traces;';
our $TLS = 'endpoint https://example.com/otlp;';

my ($CERTIFICATE, $KEY) = map {"-----BEGIN $_-----\nMIIB\n-----END $_-----\n"}
    'CERTIFICATE', 'PRIVATE KEY';

# The nginx of a test; it is never started. Beside its configuration are files of all kinds.
my $n = EdgespanTest::Nginx->new(workers => 2, log_level => 'notice', vars => { OK => $OK },
    files => { 'ca.pem' => $CERTIFICATE, 'key.pem' => $KEY, token => "Bearer t0ken\n",
        two => "t0ken\nt0ken\n" });

sub tester { return $n }

# Runs nginx -t; the place of the last line that says PLACE is $where.
sub refused {
    my ($text, $words, $what) = @_;
    my ($ok, $said) = $n->test("\n$text\n");
    my $where = 0;
    my @lines = split /\n/, slurp($n->prefix . '/nginx.conf');
    for my $i (0 .. $#lines) {
        $where = $i + 1 if $lines[$i] eq (split /\n/, $text)[-1];
    }
    $what //= $text =~ s/\s+/ /gr;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return subtest $what =~ s/[^ -~]/?/gr => sub {
        ok !$ok, 'refused';
        my ($line) = $said =~ /\[emerg\] (.*)/;
        like $line // '', $words, 'says why' or diag $said;
        like $line // '', qr/ in \S+nginx\.conf:$where$/, 'and where';
    };
}

sub accepted {
    my ($text, $what) = @_;
    my ($ok, $said) = $n->test("\n$text\n");
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok $ok && $said !~ /\[(?:warn|emerg|error|crit|alert)\]/,
        $what // $text =~ s/\s+/ /gr or diag $said;
    return $said;
}

1;
