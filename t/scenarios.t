# What is in t/scenarios, run against both servers: the same request, configured in
# each server's own words, has to give the same spans, but for what is listed with
# its reason in docs/differences.md. `prove -v` shows the tree of every scenario;
# `prove t/scenarios.t :: context errors` runs some of the files.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::GrpcCollector;
use EdgespanTest::ScenarioRun;
use EdgespanTest::Scenarios;

my @all = EdgespanTest::Scenarios::read_all();
is slurp(repo_root() . '/docs/differences.md'), EdgespanTest::Scenarios::differences(@all),
    'docs/differences.md says what the scenarios do (make differences)';

my %wanted = map { $_ => 1 } @ARGV;
my @files = grep { !%wanted || $wanted{ $_->{name} } } @all;
if (my $missing = EdgespanTest::GrpcCollector::missing()) {
    @files = grep { $_->{name} ne 'grpc' } @files;
    diag "no scenarios of gRPC: $missing";
}
my $runner = EdgespanTest::ScenarioRun->new;
my %count;
for my $file (@files) {
    $count{$_} += $runner->run($_, $file) for qw(nginx httpd);
}
my $differences = grep { defined $_->{differs} } map { @{ $_->{scenarios} } } @files;
note "differs, $_->{file}: $_->{title}: " . ($_->{differs} =~ s/\s+/ /gr)
    for grep { defined $_->{differs} } map { @{ $_->{scenarios} } } @files;
diag "scenarios: nginx $count{nginx}, httpd $count{httpd}, differences $differences";
done_testing;
