import { dockerCases } from '../support/docker-cases.ts';

dockerCases('sid');
